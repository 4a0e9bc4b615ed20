"""A client of Istio's certificate service, and whoever makes what it shows: cluster keys, tokens, requests.

Made of grpcio, of the stubs that grpcio-tools makes from the service definition given as argument, and of cryptography:
nothing of it knows the product. Reads commands from stdin, one JSON object a line, and answers each with one on stdout.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import sys
import tempfile
import time
import uuid

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtensionOID, NameOID
from google.protobuf import json_format, struct_pb2
from grpc_tools import protoc

KEYS = {}  # of clusters, by kid


def stubs(proto):
    out = tempfile.mkdtemp(prefix="stubs-", dir=sys.argv[2])
    include = os.path.join(os.path.dirname(protoc.__file__), "_proto")
    arguments = ["protoc", f"-I{os.path.dirname(proto)}", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}"]
    if protoc.main([*arguments, os.path.basename(proto)]) != 0:
        sys.exit("the service definition does not compile")
    sys.path.insert(0, out)
    import ca_pb2
    import ca_pb2_grpc

    return ca_pb2, ca_pb2_grpc


def b64(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def number(value, length=None):
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


def cluster_key(kind, kid):
    """A key of a cluster, and the JWK of its public half."""
    if kind == "rsa":
        key = rsa.generate_private_key(65537, 2048)
        public = key.public_key().public_numbers()
        jwk = {"kty": "RSA", "alg": "RS256", "n": number(public.n), "e": number(public.e)}
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_numbers()
        jwk = {"kty": "EC", "crv": "P-256", "alg": "ES256", "x": number(public.x, 32), "y": number(public.y, 32)}
    KEYS[kid] = key
    return {"jwk": {**jwk, "use": "sig", "kid": kid}}


def merged(base, changes):
    """`changes` over `base`; null takes a member away."""
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def token(kid, header={}, claims={}, seconds={}, secret=False):
    """A projected service-account token. `seconds` are dates relative to now."""
    now = int(time.time())
    key = KEYS[kid]
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    head = merged({"alg": "RS256" if is_rsa else "ES256", "kid": kid}, header)
    bound = {
        "namespace": "shop",
        "serviceaccount": {"name": "web", "uid": str(uuid.uuid4())},
        "pod": {"name": "web-0", "uid": str(uuid.uuid4())},
        "node": {"name": "node-1", "uid": str(uuid.uuid4())},
    }
    body = {
        "iss": "https://kubernetes.default.svc",
        "aud": ["sekisho-ca"],
        "sub": "system:serviceaccount:shop:web",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "jti": str(uuid.uuid4()),
        "kubernetes.io": bound,
    }
    if isinstance(claims.get("kubernetes.io"), dict):
        claims = {**claims, "kubernetes.io": merged(bound, claims["kubernetes.io"])}
    body = merged(merged(body, claims), {name: now + offset for name, offset in seconds.items()})
    signed = b64(json.dumps(head).encode()) + "." + b64(json.dumps(body).encode())
    if head["alg"] == "none":
        signature = b""
    elif head["alg"].startswith("HS"):
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        signature = hmac.new(public, signed.encode(), hashlib.sha256).digest()
    elif is_rsa:
        signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    else:
        r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return {"token": f"{signed}.{b64(signature)}"}


def csr(key="ec", key_file=None, uris=[], dns=[], ca=False, bad_signature=False, padding=0):
    """A PKCS #10 request. `key_file` is read if it is there, and written otherwise."""
    if key_file and os.path.exists(key_file):
        with open(key_file, "rb") as file:
            private = serialization.load_pem_private_key(file.read(), None)
    elif key == "ec":
        private = ec.generate_private_key(ec.SECP256R1())
    else:
        private = rsa.generate_private_key(65537, int(key.removeprefix("rsa")))
    if key_file and not os.path.exists(key_file):
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        with open(key_file, "wb") as file:
            file.write(private.private_bytes(*form))
    # The subject asks for much; it goes nowhere.
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, "spiffe://example.org/ns/kube-system/sa/admin")]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    names = [x509.UniformResourceIdentifier(uri) for uri in uris] + [x509.DNSName(name) for name in dns]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if padding:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x04\x00" + b"\0" * padding)
        builder = builder.add_extension(unknown, critical=False)
    request = builder.sign(private, hashes.SHA256())
    der = bytearray(request.public_bytes(serialization.Encoding.DER))
    if bad_signature:
        der[-1] ^= 1
    text = base64.encodebytes(bytes(der)).decode()
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"
    return {"csr": pem, "spki": hashlib.sha256(public).hexdigest()}


def read(path):
    with open(path, "rb") as file:
        return file.read()


def create(address, roots, csr, authorization=[], ttl=0, metadata=None, chain=None, key=None):
    """One CreateCertificate on a connection of its own."""
    shown = (read(key), read(chain)) if chain else (None, None)
    credentials = grpc.ssl_channel_credentials(read(roots), *shown)
    request = ca_pb2.IstioCertificateRequest(csr=csr, validity_duration=ttl)
    if metadata:
        request.metadata.CopyFrom(json_format.ParseDict(metadata, struct_pb2.Struct()))
    headers = [("authorization", value) for value in authorization]
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(address, credentials, options) as channel:
        stub = ca_pb2_grpc.IstioCertificateServiceStub(channel)
        try:
            answer = stub.CreateCertificate(request, metadata=headers, timeout=20)
        except grpc.RpcError as error:
            trailers = {key: value for key, value in error.trailing_metadata() or () if isinstance(value, str)}
            return {"code": error.code().name, "details": error.details(), "trailers": trailers}
    return {"code": "OK", "chain": list(answer.cert_chain), "leaf": leaf(answer.cert_chain[0])}


def leaf(pem):
    """What stands in a certificate, read by cryptography."""
    certificate = x509.load_pem_x509_certificate(pem.encode())

    def extension(oid):
        return certificate.extensions.get_extension_for_oid(oid)

    names = extension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    usage = extension(ExtensionOID.KEY_USAGE)
    public = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {
        "serial": f"{certificate.serial_number:032x}",
        "subject": certificate.subject.rfc4514_string(),
        "names": [[type(name).__name__, str(name.value)] for name in names],
        "ca": extension(ExtensionOID.BASIC_CONSTRAINTS).value.ca,
        "usage_critical": usage.critical,
        "usage": [
            name
            for name in ("digital_signature", "key_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
            if getattr(usage.value, name)
        ],
        "extended": sorted(oid.dotted_string for oid in extension(ExtensionOID.EXTENDED_KEY_USAGE).value),
        "seconds": int((certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds()),
        "spki": hashlib.sha256(public).hexdigest(),
    }


def find_key(spkis, paths):
    """Which files hold the private half of a P-256 key, as 32 octets at any place or as 64 hex digits. Keys are known by
    the SHA-256 of their SubjectPublicKeyInfo."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    found, tried = [], {}
    for path in paths:
        content = read(path)
        windows = [content[at : at + 32] for at in range(len(content) - 31)]
        for run in re.findall(rb"[0-9a-fA-F]{64,}", content):
            windows += [bytes.fromhex(run[at : at + 64].decode()) for at in range(len(run) - 63)]
        for window in windows:
            scalar = int.from_bytes(window, "big")
            if not 0 < scalar < order:
                continue
            if window not in tried:
                public = ec.derive_private_key(scalar, ec.SECP256R1()).public_key().public_bytes(*form)
                tried[window] = hashlib.sha256(public).hexdigest()
            if tried[window] in spkis:
                found.append(path)
                break
    return {"found": found}


ca_pb2, ca_pb2_grpc = stubs(sys.argv[1])
COMMANDS = {command.__name__: command for command in (cluster_key, token, csr, create, find_key)}

for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps(COMMANDS[asked.pop("do")](**asked)), flush=True)
