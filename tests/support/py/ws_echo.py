"""A WebSocket application: says hello first, then echoes what it gets. Prints each connection's path."""
import asyncio
import sys

from websockets.asyncio.server import serve


async def echo(connection):
    print("open", connection.request.path, flush=True)
    await connection.send("hello")
    async for message in connection:
        await connection.send(message)
    print("closed", connection.close_code, flush=True)


async def main():
    async with serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=None) as server:
        print("ready", flush=True)
        await server.serve_forever()


asyncio.run(main())
