"""A coroutine per connection: each line comes back in upper case, and what follows `raw N` as it is."""

from sockserve import serve

seen = 0


async def handle(reader, writer):
    global seen
    seen += 1
    host = writer.get_extra_info("peername")[0]
    while line := await reader.readline():
        if line == b"who\n":
            line = host.encode() + b"\n"
        elif line.startswith(b"raw "):
            writer.write(await reader.readexactly(int(line[4:])))
            await writer.drain()
            continue
        elif line == b"fail\n":
            raise ValueError("deliberate failure")
        elif line == b"bye\n":
            break
        writer.write(line.upper())
        await writer.drain()
    writer.close()
    await writer.wait_closed()


serve(handle)
