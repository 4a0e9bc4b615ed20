"""A TLS server that stands where a callee should be, with whatever certificate it is given, and writes down what it gets.

In: port, certificate, key, log file. Out: one JSON line per connection {handshake, error, received (hex)}.
It asks for no client certificate and answers any request with a 200 that says so.
"""

import json
import socket
import ssl
import sys
import threading

LOCK = threading.Lock()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 8\r\n\r\nimpostor"


def serve(plain, context, log_path):
    record = {"handshake": False, "error": None, "received": ""}
    plain.settimeout(5)
    try:
        with context.wrap_socket(plain, server_side=True) as tls:
            record["handshake"] = True
            data = tls.recv(65536)
            record["received"] = data.hex()
            if data:
                tls.sendall(ANSWER)
    except OSError as error:
        record["error"] = str(error)
    with LOCK, open(log_path, "a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")


def main():
    port, cert, key, log_path = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    print("ready", flush=True)
    while True:
        plain, _ = listener.accept()
        threading.Thread(target=serve, args=(plain, context, log_path), daemon=True).start()


main()
