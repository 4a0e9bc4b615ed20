"""An application that speaks HTTP/2 over plain TCP with prior knowledge, and writes down what it was asked.

In: a port, and a file that gets one JSON line per finished request. Out: 200 with a short text body and a trailer; HEAD gets
the head alone. A query changes the answer: `bytes=N` sends so many bytes, `early=STATUS` answers before the body has come,
`bare=STATUS` answers that status with a body it must not have.
It refuses HTTP/1.1: the connection is closed and noted as {"not_h2": true}.
"""

import hashlib
import json
import socket
import sys
import threading
from urllib.parse import parse_qs, urlsplit

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


def head(status, length=None):
    fields = [(":status", status), ("content-type", "text/plain"), ("server", "h2-origin")]
    return fields if length is None else fields + [("content-length", str(length))]


class Answers:
    """Bodies that wait for the other side's windows."""

    def __init__(self, conn):
        self.conn = conn
        self.waiting = {}

    def send(self, stream, body, trailers):
        self.waiting[stream] = (body, trailers)
        self.move()

    def move(self):
        for stream, (body, trailers) in list(self.waiting.items()):
            while body:
                room = min(self.conn.local_flow_control_window(stream), self.conn.max_outbound_frame_size, len(body))
                if room == 0:
                    break
                self.conn.send_data(stream, body[:room])
                body = body[room:]
            if body:
                self.waiting[stream] = (body, trailers)
                continue
            del self.waiting[stream]
            if trailers:
                self.conn.send_headers(stream, trailers, end_stream=True)
            else:
                self.conn.end_stream(stream)


def answer(answers, stream_id, stream, query):
    conn = answers.conn
    if stream["method"] == "HEAD":
        conn.send_headers(stream_id, head("200", 7), end_stream=True)
    elif "bare" in query:
        conn.send_headers(stream_id, head(query["bare"]))
        answers.send(stream_id, b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nEVIL", [])
    elif "bytes" in query:
        conn.send_headers(stream_id, head("200"))
        answers.send(stream_id, b"x" * int(query["bytes"]), [])
    else:
        conn.send_headers(stream_id, head("200"))
        answers.send(stream_id, b"h2 " + str(stream["length"]).encode(), [("x-origin-sum", stream["hash"].hexdigest())])


def serve(sock, log_path):
    config = h2.config.H2Configuration(client_side=False, header_encoding=None)
    conn = h2.connection.H2Connection(config=config)
    conn.initiate_connection()
    sock.sendall(conn.data_to_send())
    streams = {}
    answers = Answers(conn)
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
                fields = text(event.headers)
                named = dict(map(tuple, fields))
                query = {key: values[0] for key, values in parse_qs(urlsplit(named.get(":path", "")).query).items()}
                stream = {"headers": fields, "hash": hashlib.sha256(), "length": 0, "trailers": [], "method": named.get(":method"), "query": query}
                if "early" in query:
                    note(log_path, {"early": True, "path": named.get(":path")})
                    conn.send_headers(event.stream_id, head(query["early"], 5))
                    conn.send_data(event.stream_id, b"early", end_stream=True)
                    conn.reset_stream(event.stream_id, h2.errors.ErrorCodes.NO_ERROR)
                    continue
                streams[event.stream_id] = stream
            elif isinstance(event, h2.events.DataReceived):
                stream = streams.get(event.stream_id)
                if stream is None:
                    continue
                stream["hash"].update(event.data)
                stream["length"] += len(event.data)
                conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                streams[event.stream_id]["trailers"] = text(event.headers)
            elif isinstance(event, h2.events.StreamReset):
                answers.waiting.pop(event.stream_id, None)
                stream = streams.pop(event.stream_id, None)
                if stream:
                    note(log_path, {"reset": True, "headers": stream["headers"]})
            elif isinstance(event, h2.events.WindowUpdated):
                answers.move()
            elif isinstance(event, h2.events.StreamEnded):
                stream = streams.pop(event.stream_id, None)
                if stream is None:
                    continue
                named = dict(map(tuple, stream["headers"]))
                note(log_path, {
                    "method": named.get(":method"), "path": named.get(":path"), "authority": named.get(":authority"),
                    "headers": stream["headers"], "length": stream["length"], "sha256": stream["hash"].hexdigest(),
                    "trailers": stream["trailers"],
                })
                answer(answers, event.stream_id, stream, stream["query"])
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
