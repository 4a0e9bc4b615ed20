"""An ordinary gRPC application and an ordinary gRPC client, without generated code: messages are plain bytes.

`serve ADDRESS LOG`    service echo.Echo with Unary, Count (server stream), Sum (client stream), Chat (both ways);
                       one JSON line per call in LOG with the method and the metadata it saw.
`call ADDRESS CASE..`  runs the named cases and prints one JSON object per line: {"case", "ok", "code", "details", "got"}.
"""

import json
import sys
import threading
from concurrent import futures

import grpc

SERVICE = "echo.Echo"
LOCK = threading.Lock()


def serve(address, log_path):
    def note(context, method):
        seen = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        with LOCK, open(log_path, "a", encoding="utf-8") as log:
            log.write(json.dumps({"method": method, "metadata": seen}) + "\n")

    def unary(request, context):
        note(context, "Unary")
        context.set_trailing_metadata((("x-echo-trailer", "unary"),))
        return b"echo:" + request

    def count(request, context):
        note(context, "Count")
        for number in range(int(request)):
            yield str(number).encode()

    def total(requests, context):
        note(context, "Sum")
        return str(sum(int(one) for one in requests)).encode()

    def chat(requests, context):
        note(context, "Chat")
        for one in requests:
            yield b"re:" + one

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Sum": grpc.stream_unary_rpc_method_handler(total),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Forbidden": grpc.unary_unary_rpc_method_handler(unary),
    }),))
    if server.add_insecure_port(address) == 0:
        sys.exit(f"cannot listen on {address}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


def call(address, cases):
    # One connection per run, no proxy from the environment, and no wait for ready: a refusal must show at once.
    channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
    path = f"/{SERVICE}/"

    def chat():
        replies = channel.stream_stream(path + "Chat")(iter(_paced()), timeout=20)
        return [reply.decode() for reply in replies]

    known = {
        "unary": lambda: channel.unary_unary(path + "Unary")(b"hello", timeout=20).decode(),
        "marker": lambda: channel.unary_unary(path + "Unary")(b"MARKER-7f3a", timeout=20).decode(),
        "big": lambda: len(channel.unary_unary(path + "Unary")(b"x" * 1048576, timeout=20)),
        "server_stream": lambda: [reply.decode() for reply in channel.unary_stream(path + "Count")(b"5", timeout=20)],
        "client_stream": lambda: channel.stream_unary(path + "Sum")(iter([b"1", b"2", b"39"]), timeout=20).decode(),
        "chat": chat,
        "forbidden": lambda: channel.unary_unary(path + "Forbidden")(b"hello", timeout=20).decode(),
    }
    for case in cases:
        try:
            print(json.dumps({"case": case, "ok": True, "code": "OK", "details": "", "got": known[case]()}))
        except grpc.RpcError as error:
            print(json.dumps({"case": case, "ok": False, "code": error.code().name, "details": error.details(), "got": None}))


def _paced():
    # Each message leaves only after a short pause, so that a proxy which waits for the whole body would stall the chat.
    import time

    for number in range(4):
        time.sleep(0.05)
        yield f"m{number}".encode()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3])
    else:
        call(sys.argv[2], sys.argv[3:])
