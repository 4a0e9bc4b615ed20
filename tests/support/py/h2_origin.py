"""An application that speaks HTTP/2 over plain TCP with prior knowledge, and writes down what it was asked.

In: a port, and a file that gets one JSON line per finished request. Out: 200 with a short text body and a trailer.
It refuses HTTP/1.1: the connection is closed and noted as {"not_h2": true}.
"""

import hashlib
import json
import socket
import sys
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

LOCK = threading.Lock()


def note(log_path, record):
    with LOCK, open(log_path, "a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")


def text(pairs):
    def plain(value):
        return value.decode("latin-1") if isinstance(value, bytes) else value

    return [[plain(name), plain(value)] for name, value in pairs]


def serve(sock, log_path):
    config = h2.config.H2Configuration(client_side=False, header_encoding=None)
    conn = h2.connection.H2Connection(config=config)
    conn.initiate_connection()
    sock.sendall(conn.data_to_send())
    streams = {}
    while True:
        try:
            data = sock.recv(65536)
        except OSError:
            return
        if not data:
            return
        try:
            events = conn.receive_data(data)
        except h2.exceptions.ProtocolError:
            note(log_path, {"not_h2": True, "first": data[:40].decode("latin-1")})
            return
        for event in events:
            if isinstance(event, h2.events.RequestReceived):
                streams[event.stream_id] = {"headers": text(event.headers), "hash": hashlib.sha256(), "length": 0, "trailers": []}
            elif isinstance(event, h2.events.DataReceived):
                stream = streams[event.stream_id]
                stream["hash"].update(event.data)
                stream["length"] += len(event.data)
                conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                streams[event.stream_id]["trailers"] = text(event.headers)
            elif isinstance(event, h2.events.StreamReset):
                stream = streams.pop(event.stream_id, None)
                if stream:
                    note(log_path, {"reset": True, "headers": stream["headers"]})
            elif isinstance(event, h2.events.StreamEnded):
                stream = streams.pop(event.stream_id)
                named = dict(map(tuple, stream["headers"]))
                note(log_path, {
                    "method": named.get(":method"), "path": named.get(":path"), "authority": named.get(":authority"),
                    "headers": stream["headers"], "length": stream["length"], "sha256": stream["hash"].hexdigest(),
                    "trailers": stream["trailers"],
                })
                conn.send_headers(event.stream_id, [(":status", "200"), ("content-type", "text/plain"), ("server", "h2-origin")])
                conn.send_data(event.stream_id, b"h2 " + str(stream["length"]).encode())
                conn.send_headers(event.stream_id, [("x-origin-sum", stream["hash"].hexdigest())], end_stream=True)
        sock.sendall(conn.data_to_send())


def main():
    port, log_path = int(sys.argv[1]), sys.argv[2]
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    print("ready", flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=run, args=(sock, log_path), daemon=True).start()


def run(sock, log_path):
    try:
        with sock:
            serve(sock, log_path)
    except OSError:
        pass


main()
