# The steps of scripts/test, one by one, and what else is done often. `scripts/test` is what CI runs and installs the tools.

export PATH := justfile_directory() + "/target/tools/bin:" + env("PATH") + ":/usr/sbin:/sbin"

root_tests := "test(/(^|::)root::/)"

# the recipes
default:
    @just --list

# format, as it should be
fmt:
    cargo fmt --all --check

# lints
lint:
    cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

# docs of the crates
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

# licences, sources, and which crate may use which
deny:
    cargo-deny --locked check --hide-inclusion-graph bans licenses sources

# unit tests, the house plan, doc tests
unit:
    cargo nextest run --workspace --all-targets --locked -E 'not (package(sekisho) & kind(test)) | binary(architecture)'
    cargo test --doc --workspace --locked --quiet

# the black-box tests that need no root, against the release binary
blackbox: release
    SEKISHO_BIN="$PWD/target/release/sekisho" cargo nextest run -p sekisho --test '*' --locked -E 'not binary(architecture) & not test(of_a_request) & not {{ root_tests }}'

# the black-box tests that need root
blackbox-root: release static-test
    SEKISHO_BIN="$PWD/target/release/sekisho" cargo nextest run -p sekisho --test '*' --locked -E '{{ root_tests }}'

# what a request costs: instructions, system calls and allocations, beside their limits
cost: release
    SEKISHO_BIN="$PWD/target/release/sekisho" cargo test --locked --quiet --test cost -- of_a_request --nocapture --test-threads 1

# the catalogue of faults against the release binary, beside Envoy; writes the figures of docs/faults.md
faults: release
    rm -rf target/faults
    SEKISHO_BIN="$PWD/target/release/sekisho" cargo nextest run -p sekisho --test hostile --locked --no-capture -E 'test(/^(requests|answers|http2|tls|drills::origin)::/)'
    SEKISHO_UPDATE=1 cargo nextest run -p sekisho --test faults --locked

# random input for every parser, so many seconds in all; what breaks a property is kept in fuzz/corpus (`--keep`: what reached more, too)
fuzz seconds="180" *arguments:
    RUSTC_WORKSPACE_WRAPPER="$PWD/fuzz/instrument" cargo run --package sekisho-fuzz --locked --quiet -- --in-all {{ seconds }} --files {{ arguments }}

# so many random exchanges through the tap: every packet before a strict parser, every stream whole, every body where it belongs
exchanges count="10000000" *seed:
    RUSTC_WORKSPACE_WRAPPER="$PWD/fuzz/instrument" cargo run --package sekisho-fuzz --locked --quiet --config 'profile.dev.package.etherparse.opt-level=3' -- exchanges {{ count }} {{ seed }}

# everything that has to hold before a change goes in
test:
    scripts/test

# every example file is accepted
examples:
    cargo build --locked --quiet
    for file in examples/*.toml examples/*/*.toml; do target/debug/sekisho check -c "$file"; done

# the whole story on one machine, without root
demo:
    cargo run --release --locked -- demo

# CPU, latency and memory of a pair, beside Envoy, HAProxy and nginx; `just bench --quick` for a short look
bench *arguments:
    cargo bench --bench compare -- {{ arguments }}

# what the CA does in a second, for one core, and how 10,000 sidecars come back; `--quick` for a look, `--only herd` for one row
bench-ca *arguments: release
    ulimit -n 20000 && SEKISHO_BIN="$PWD/target/release/sekisho" cargo bench --bench ca -- {{ arguments }}

# half an hour of mixed load with faults: memory, descriptors, tasks and latency over time; `just soak --minutes 5` for a look
soak *arguments:
    cargo bench --bench soak -- {{ arguments }}

# so many changes of verdict under load, none of which may fail a request or go unseen
reloads count="1000": release
    SEKISHO_BIN="$PWD/target/release/sekisho" SEKISHO_RELOADS={{ count }} cargo test --locked --test reload_drain -- --nocapture good_reloads

# so many renewals of certificates that live five seconds, under load
rotations count="100": release
    SEKISHO_BIN="$PWD/target/release/sekisho" SEKISHO_ROTATIONS={{ count }} cargo test --locked --test reload_drain -- --nocapture five_seconds

# so many replacements of the CA's root, under load between two sidecars
root-rotations count="20": release
    SEKISHO_BIN="$PWD/target/release/sekisho" SEKISHO_ROOT_ROTATIONS={{ count }} cargo test --locked --test identity -- --nocapture roots_rotate

# the CA's drills: kill -9 at every moment of every step of a rotation, a stolen root, a faulty CA, an operator's acts
ca-drills: release
    SEKISHO_BIN="$PWD/target/release/sekisho" cargo nextest run -p sekisho --locked --success-output immediate -E '(binary(process) & test(ca_roots)) | (binary(ca) & test(/killed|operator|restart|secret/)) | (binary(identity) & test(/rotation|stolen|denied|faulty/))'

# from a sidecar's start to its identity, with the CA beside it, so many times
first-certificate count="30": release
    SEKISHO_BIN="$PWD/target/release/sekisho" SEKISHO_FIRST={{ count }} cargo test --locked --test identity -- --nocapture first_certificate

# so many stop signals under load
stops count="50": release
    SEKISHO_BIN="$PWD/target/release/sekisho" SEKISHO_STOPS={{ count }} cargo test --locked --test reload_drain -- --nocapture stop_signals

# the release binary
release:
    cargo build --release --locked --quiet

# a static binary as the images have it, without optimisation: what the test of the image locks into an empty root
static-test:
    RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_DEV_DEBUG=0 cargo build --locked --quiet --bin sekisho --target x86_64-unknown-linux-gnu --target-dir target/static
    ln -sf x86_64-unknown-linux-gnu/debug/sekisho target/static/sekisho

# the static binary of the images
static:
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target x86_64-unknown-linux-gnu
