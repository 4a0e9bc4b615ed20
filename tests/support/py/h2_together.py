"""An HTTP/2 client over plain TCP with prior knowledge that has all of its streams open at once.

In (JSON on stdin): address, port, requests: [{method, path, authority, headers, length}]; byte K of body N is (7K + K/251 + N) % 256.
Every head goes out before the first body, bodies go out in pieces by turns, and no stream is ended before all bodies are out.
Out (JSON): {most_open, replies: [{status, length, trailers, error}]}, in the order of the requests.
"""

import json
import socket
import sys

import h2.config
import h2.connection
import h2.events

PIECE = 1000


def main():
    ask = json.load(sys.stdin)
    sock = socket.create_connection((ask["address"], ask["port"]), timeout=20)
    conn = h2.connection.H2Connection(config=h2.config.H2Configuration(client_side=True, header_encoding="latin-1"))
    conn.initiate_connection()
    # The bodies of all answers fit without news from us.
    conn.increment_flow_control_window(8 << 20)
    sock.sendall(conn.data_to_send())
    # The other side's settings come first: how many streams may be open.
    while True:
        events = conn.receive_data(sock.recv(65536))
        if any(isinstance(event, h2.events.RemoteSettingsChanged) for event in events):
            break
    replies, waiting = {}, {}
    for number, one in enumerate(ask["requests"]):
        stream = conn.get_next_available_stream_id()
        fields = [(":method", one["method"]), (":scheme", "http"), (":authority", one["authority"]), (":path", one["path"])]
        conn.send_headers(stream, fields + [tuple(pair) for pair in one["headers"]])
        waiting[stream] = bytes((7 * at + at // 251 + number) % 256 for at in range(one["length"]))
        replies[stream] = {"status": None, "length": 0, "trailers": [], "error": None}
    sock.sendall(conn.data_to_send())
    most_open = conn.open_outbound_streams
    streams, ended = list(replies), set()

    while len(ended) < len(streams):
        moved = False
        for stream in [stream for stream in streams if waiting.get(stream)]:
            room = min(conn.local_flow_control_window(stream), PIECE)
            if room > 0:
                conn.send_data(stream, waiting[stream][:room])
                waiting[stream] = waiting[stream][room:]
                moved = True
        if waiting and not any(waiting.values()):
            for stream in streams:
                conn.end_stream(stream)
            waiting = {}
        sock.sendall(conn.data_to_send())
        if moved and waiting:
            continue
        data = sock.recv(65536)
        if not data:
            break
        for event in conn.receive_data(data):
            reply = replies.get(getattr(event, "stream_id", None))
            if isinstance(event, h2.events.ResponseReceived):
                reply["status"] = int(dict(event.headers)[":status"])
            elif isinstance(event, h2.events.DataReceived):
                reply["length"] += len(event.data)
                conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                reply["trailers"] = [list(pair) for pair in event.headers]
            elif isinstance(event, h2.events.StreamReset):
                reply["error"] = f"reset {event.error_code}"
                ended.add(event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                ended.add(event.stream_id)
    print(json.dumps({"most_open": most_open, "replies": [replies[stream] for stream in streams]}))


main()
