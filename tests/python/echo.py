"""E2 by CPython's asyncio: what comes goes back, until the peer half-closes."""

import asyncio


async def handle(reader, writer):
    while data := await reader.read(1024):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1])
    await server.serve_forever()


asyncio.run(main())
