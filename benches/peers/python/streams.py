"""Echo servers of CPython's standard library, for the benchmark.

    streams.py threading|forking|asyncio tcp|unix:PATH

The backlog is longer than socketserver's own 5, because the clients connect many at a
time.
"""

import asyncio
import socket
import socketserver
import sys

SIZE = 64 * 1024
BACKLOG = 1024


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        if self.request.family != socket.AF_UNIX:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := self.request.recv(SIZE):
            self.request.sendall(data)


def serve(mixin, where):
    unix = where.startswith("unix:")
    base = socketserver.UnixStreamServer if unix else socketserver.TCPServer

    class Server(mixin, base):
        request_queue_size = BACKLOG
        daemon_threads = True
        # socketserver's own 40 would make a fork wait for a child that ends.
        max_children = 20_000

    with Server(where[5:] if unix else ("127.0.0.1", 0), Echo) as server:
        ready(server.server_address)
        server.serve_forever()


async def echo(reader, writer):
    while data := await reader.read(SIZE):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve_asyncio(where):
    if where.startswith("unix:"):
        server = await asyncio.start_unix_server(echo, where[5:], backlog=BACKLOG)
    else:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=BACKLOG)
    ready(server.sockets[0].getsockname())
    await server.serve_forever()


def ready(address):
    if isinstance(address, tuple):
        print("listening tcp://%s:%d" % address, flush=True)
    else:
        print("listening unix://%s" % address, flush=True)


def main():
    how, where = sys.argv[1:]
    if how == "threading":
        serve(socketserver.ThreadingMixIn, where)
    elif how == "forking":
        serve(socketserver.ForkingMixIn, where)
    else:
        asyncio.run(serve_asyncio(where))


if __name__ == "__main__":
    main()
