"""One TLS connection with exact bytes: what an attacker, or a caller with a given certificate, sees.

In (JSON on stdin): address, port, send (hex), seconds, and optionally cert, key, bundle, alpn, max_version, server_name.
Out (JSON): handshake, version, cipher, alpn, peer_uris, received (hex), end (eof | reset | alert | timeout), error.
The name in the callee's certificate is not checked here: this peer wants to see what it is given.
"""

import json
import socket
import ssl
import sys


def main():
    ask = json.load(sys.stdin)
    out = {"handshake": False, "version": None, "cipher": None, "alpn": None, "peer_uris": [], "received": "", "end": None, "error": None}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if ask.get("bundle"):
        context.load_verify_locations(ask["bundle"])
    else:
        context.verify_mode = ssl.CERT_NONE
    if ask.get("cert"):
        context.load_cert_chain(ask["cert"], ask["key"])
    if ask.get("alpn"):
        context.set_alpn_protocols(ask["alpn"])
    if ask.get("max_version"):
        context.maximum_version = ssl.TLSVersion[ask["max_version"]]
    received = b""
    try:
        plain = socket.create_connection((ask["address"], ask["port"]), timeout=ask["seconds"])
        tls = context.wrap_socket(plain, server_hostname=ask.get("server_name"))
        out["handshake"] = True
        out["version"], out["cipher"], out["alpn"] = tls.version(), tls.cipher()[0], tls.selected_alpn_protocol()
        names = (tls.getpeercert() or {}).get("subjectAltName", ())
        out["peer_uris"] = [value for kind, value in names if kind == "URI"]
        if ask["send"]:
            tls.sendall(bytes.fromhex(ask["send"]))
        while True:
            more = tls.recv(65536)
            if not more:
                out["end"] = "eof"
                break
            received += more
    except TimeoutError:
        out["end"] = "timeout"
    except ssl.SSLError as error:
        out["end"], out["error"] = "alert", str(error)
    except OSError as error:
        out["end"], out["error"] = "reset", str(error)
    out["received"] = received.hex()
    json.dump(out, sys.stdout)


main()
