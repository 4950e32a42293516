"""Each line comes back in upper case, with how many this instance has answered: a coroutine for each
connection, and one instance for all of them."""

from sockserve import serve

answered = 0


async def handle(reader, writer):
    global answered
    async for line in reader:
        answered += 1
        writer.write(f"{answered}: ".encode() + line.upper())
        await writer.drain()


serve(handle)
