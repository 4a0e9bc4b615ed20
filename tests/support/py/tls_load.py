"""Steady load over kept mutual TLS connections, strict about every request.

In (JSON on stdin): address, port, cert, key, bundle, path, connections. It runs until its stdin is closed. A
request that brings no complete answer counts as failed, and so do any status but 200 and a connection that is refused
or that ends before its handshake is done; there is no second try. A worker whose answer says `Connection: close` opens
a new connection.
Out (JSON at the end): ok, closes (answers with `Connection: close`), failed (list of texts).
"""

import json
import socket
import ssl
import sys
import threading

STOP = threading.Event()
LOCK = threading.Lock()
TOTAL = {"ok": 0, "closes": 0, "failed": []}


def answer(tls):
    head = b""
    while b"\r\n\r\n" not in head:
        more = tls.recv(65536)
        if not more:
            raise OSError("ended before the answer was complete")
        head += more
    head, body = head.split(b"\r\n\r\n", 1)
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:])}
    want = int(fields.get("content-length", "-1"))
    if want < 0:
        raise OSError("an answer without a length: " + repr(head))
    while len(body) < want:
        more = tls.recv(65536)
        if not more:
            raise OSError("ended inside the body")
        body += more
    return int(lines[0].split()[1]), fields.get("connection", "").lower() == "close"


def worker(ask, context):
    request = f"GET {ask['path']} HTTP/1.1\r\nHost: orders.shop.svc\r\n\r\n".encode()
    while not STOP.is_set():
        try:
            plain = socket.create_connection((ask["address"], ask["port"]), timeout=10)
            tls = context.wrap_socket(plain)
        except OSError as error:
            with LOCK:
                TOTAL["failed"].append(f"no connection: {error}")
            return
        try:
            while not STOP.is_set():
                tls.sendall(request)
                status, close = answer(tls)
                with LOCK:
                    if status == 200:
                        TOTAL["ok"] += 1
                    else:
                        TOTAL["failed"].append(f"status {status}")
                    TOTAL["closes"] += close
                if close:
                    break
        except OSError as error:
            with LOCK:
                TOTAL["failed"].append(str(error))
        finally:
            tls.close()


def main():
    ask = json.loads(sys.stdin.readline())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ask["bundle"])
    context.load_cert_chain(ask["cert"], ask["key"])
    workers = [threading.Thread(target=worker, args=(ask, context)) for _ in range(ask["connections"])]
    for one in workers:
        one.start()
    print("ready", flush=True)
    sys.stdin.read()
    STOP.set()
    for one in workers:
        one.join()
    print(json.dumps(TOTAL), flush=True)


main()
