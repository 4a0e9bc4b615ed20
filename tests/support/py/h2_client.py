"""An HTTP/2 client over plain TCP with prior knowledge: one connection, one request after the other.

In (JSON on stdin): address, port, requests: [{method, path, authority, headers, body or body_length, trailers}].
Out (JSON): a list of {status, headers, trailers, body (text, first 2000 characters), length, error}.
"""

import json
import socket
import sys

import h2.config
import h2.connection
import h2.events


def ask_one(sock, conn, ask):
    body = ask["body"].encode() if "body" in ask else b"x" * ask.get("body_length", 0)
    trailers = [tuple(pair) for pair in ask.get("trailers", [])]
    fields = [(":method", ask["method"]), (":scheme", "http"), (":authority", ask["authority"]), (":path", ask["path"])]
    fields += [tuple(pair) for pair in ask.get("headers", [])]
    if trailers:
        fields.append(("te", "trailers"))
    stream = conn.get_next_available_stream_id()
    bare = not body and not trailers
    conn.send_headers(stream, fields, end_stream=bare)
    out = {"status": None, "headers": [], "trailers": [], "body": b"", "error": None}
    sent, done = 0, bare
    while True:
        while not done and sent < len(body):
            room = min(conn.local_flow_control_window(stream), conn.max_outbound_frame_size, len(body) - sent)
            if room == 0:
                break
            conn.send_data(stream, body[sent:sent + room])
            sent += room
        if not done and sent == len(body):
            if trailers:
                conn.send_headers(stream, trailers, end_stream=True)
            else:
                conn.end_stream(stream)
            done = True
        sock.sendall(conn.data_to_send())
        data = sock.recv(65536)
        if not data:
            out["error"] = "closed"
            return out
        for event in conn.receive_data(data):
            if getattr(event, "stream_id", stream) not in (stream, 0, None):
                continue
            if isinstance(event, h2.events.ResponseReceived):
                fields = [[name, value] for name, value in event.headers]
                out["status"], out["headers"] = int(dict(map(tuple, fields))[":status"]), fields
            elif isinstance(event, h2.events.DataReceived):
                out["body"] += event.data
                conn.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, h2.events.TrailersReceived):
                out["trailers"] = [[name, value] for name, value in event.headers]
            elif isinstance(event, h2.events.StreamReset):
                out["error"] = f"reset {event.error_code}"
                # A reset with NO_ERROR after a whole answer only says that the rest of the upload is not wanted.
                return out
            elif isinstance(event, h2.events.ConnectionTerminated):
                out["error"] = f"goaway {event.error_code}"
            elif isinstance(event, h2.events.StreamEnded):
                sock.sendall(conn.data_to_send())
                return out
            if out["status"] is not None and out["status"] >= 400:
                done = True


def main():
    ask = json.load(sys.stdin)
    sock = socket.create_connection((ask["address"], ask["port"]), timeout=20)
    # What the other end makes of bad fields is what is asked: they are sent as they are.
    config = h2.config.H2Configuration(client_side=True, header_encoding="latin-1", validate_outbound_headers=False)
    conn = h2.connection.H2Connection(config=config)
    conn.initiate_connection()
    results = []
    for one in ask["requests"]:
        try:
            out = ask_one(sock, conn, one)
        except Exception as error:  # the caller judges what a failure means
            out = {"status": None, "headers": [], "trailers": [], "body": b"", "error": repr(error)}
        out["length"] = len(out["body"])
        out["body"] = out["body"][:2000].decode("latin-1")
        results.append(out)
    json.dump(results, sys.stdout)


main()
