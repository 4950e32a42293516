"""Serves the handler of a program by CPython's own modules, and prints the port.

reference.py PROGRAM.py [NAME=VALUE]...

`asyncore` and `asynchat` are in CPython until 3.11. Without them, for a handler that needs them, the port
is 0.
"""

import importlib
import os
import sys
import warnings
from pathlib import Path

sys.dont_write_bytecode = True
program = Path(sys.argv[1])
os.environ.update(argument.split("=", 1) for argument in sys.argv[2:])
tests = program.resolve().parent
sys.path[:0] = [str(tests), str(tests.parents[2] / "sdk" / "python")]

warnings.simplefilter("ignore")
try:
    import asynchat
    import asyncore
except ImportError:
    asyncore = None
else:
    sys.modules["sockserve.asyncore"] = asyncore
    sys.modules["sockserve.asynchat"] = asynchat

from sockserve import serving

os.environ["TZ"] = "UTC"
sys.stdout.reconfigure(line_buffering=True)
module = importlib.import_module(program.stem)
service = serving.declared


def by_socketserver():
    import socketserver

    kind = service.server_class
    if kind.socket_type == socketserver.TCPServer.socket_type:
        kind = type("Server", (socketserver.ThreadingMixIn, kind), {"daemon_threads": True})
    with kind(("127.0.0.1", 0), service.handler) as server:
        print(server.server_address[1])
        server.serve_forever()


def by_asyncore():
    class Server(asyncore.dispatcher):
        def handle_accepted(self, sock, addr):
            service.handler(sock)

    server = Server()
    server.create_socket()
    server.bind(("127.0.0.1", 0))
    server.listen(100)
    print(server.socket.getsockname()[1])
    asyncore.loop(use_poll=True)


def by_asyncio():
    import asyncio

    async def main():
        server = await asyncio.start_server(service.handler, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


if service.contract == "evented":
    if asyncore is None:
        sys.exit(print(0))
    by_asyncore()
elif service.contract == "concurrent":
    by_asyncio()
else:
    by_socketserver()
