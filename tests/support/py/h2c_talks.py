"""Reads connections of HTTP/2 strictly, each side alone, as a receiver that has announced what the other side announced.

In: a folder with `N-client` and `N-server`, what both sides of connection N said. Out: `N-client-body` and `N-server-body`, and a
JSON line for each N: {"number", "client", "server"}, each side {"fields", "trailers": [[name, value, never indexed]], "ended",
"reset": code or null, "goaway": code or null, "frames": number}. A connection that is not HTTP/2 is left out.
Refuses by h2, hpack and hyperframe what breaks RFC 9113 or 7541: frames out of place or beyond a window, malformed heads, a length
that is not kept. Refuses more: a header block that needs a dynamic table, a frame that is cut, bytes behind the last one.
"""

import json
import pathlib
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2 import events
from h2.settings import SettingCodes, Settings
from hpack import NeverIndexedHeaderTuple
from hyperframe.frame import Frame, SettingsFrame, WindowUpdateFrame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frames(data):
    data = memoryview(data.removeprefix(PREFACE))
    while data:
        frame, length = Frame.parse_frame_header(data[:9], strict=True)
        assert 9 + length <= len(data), "a frame is cut"
        frame.parse_body(data[9 : 9 + length])
        data = data[9 + length :]
        yield frame


def announced(data):
    """The windows of streams and of the connection, and settings, of which only these are expected."""
    stream, connection = 65535, 65535
    for frame in frames(data):
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            assert set(frame.settings) <= {SettingsFrame.INITIAL_WINDOW_SIZE, SettingsFrame.ENABLE_PUSH}
            stream = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, stream)
        elif isinstance(frame, WindowUpdateFrame):
            assert frame.stream_id == 0
            connection += frame.window_increment
    return stream, connection


def receiver(is_client, other_heard):
    conn = H2Connection(config=H2Configuration(client_side=is_client, header_encoding="latin-1"))
    stream, connection = announced(other_heard)
    conn.local_settings = Settings(client=is_client, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: stream})
    conn.initiate_connection()
    conn.increment_flow_control_window(connection - 65535)
    return conn


def heard(conn, data, body_path):
    body = bytearray()
    told = {"fields": [], "trailers": [], "ended": False, "reset": None, "goaway": None, "frames": len(list(frames(data)))}
    fields = lambda event: [[n, v, isinstance(h, NeverIndexedHeaderTuple)] for h in event.headers for n, v in [h]]
    # A receiver has its own settings acknowledged before anything else.
    for event in conn.receive_data(data):
        match event:
            case events.RequestReceived() | events.ResponseReceived():
                told["fields"] = fields(event)
            case events.DataReceived():
                body += event.data
            case events.TrailersReceived():
                told["trailers"] = fields(event)
            case events.StreamEnded():
                told["ended"] = True
            case events.StreamReset():
                assert event.remote_reset, "the receiver found fault"
                told["reset"] = event.error_code
            case events.ConnectionTerminated():
                told["goaway"] = event.error_code
            case events.RemoteSettingsChanged() | events.SettingsAcknowledged() | events.WindowUpdated():
                pass
            case _:
                raise AssertionError(f"unexpected {event}")
    assert not conn.decoder.header_table.dynamic_entries, "a block changed the dynamic table"
    body_path.write_bytes(body)
    return told


def main():
    folder = pathlib.Path(sys.argv[1])
    for number in range(len(list(folder.glob("*-client")))):
        client, server = ((folder / f"{number}-{side}").read_bytes() for side in ("client", "server"))
        if not client.startswith(PREFACE):
            continue
        request = heard(receiver(False, server), client, folder / f"{number}-client-body")
        asking = receiver(True, client)
        asking.send_headers(1, [(name, value) for name, value, _ in request["fields"]], end_stream=request["ended"])
        response = heard(asking, server, folder / f"{number}-server-body")
        print(json.dumps({"number": number, "client": request, "server": response}))


main()
