# Two images from one build:
#
#   docker build -t sekisho:0.1.0 .                            the sidecar: one static binary on nothing, user 1337
#   docker build --target capture -t sekisho-capture:0.1.0 .   the init container: the binary beside iptables, root
#
# The binary is linked statically against glibc: `+crt-static` together with an explicit --target, without which cargo would
# apply the flag to build scripts too. Names are resolved by the binary itself, so no name service of glibc is missed.

FROM rust:1.95.0-bookworm AS build
# The image's own toolchain, whatever components rust-toolchain.toml would fetch for development.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target x86_64-unknown-linux-gnu \
    && cp target/x86_64-unknown-linux-gnu/release/sekisho /sekisho \
    && /sekisho --version

# iptables programs do the work of `sekisho capture`; they need root, NET_ADMIN and NET_RAW in the pod's network namespace.
FROM debian:bookworm-slim AS capture
RUN apt-get update \
    && apt-get install --yes --no-install-recommends iptables \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /sekisho /sekisho
USER 0:0
ENTRYPOINT ["/sekisho"]

# Last, so that it is what a plain `docker build` makes.
FROM scratch AS sidecar
COPY --from=build /sekisho /sekisho
USER 1337:1337
ENTRYPOINT ["/sekisho"]
