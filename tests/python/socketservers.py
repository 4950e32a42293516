"""One of CPython's socketserver classes with its documentation's handler: the class
and the address are arguments. A datagram is answered as a connection is."""

import socketserver
import sys


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        if isinstance(self.request, tuple):
            data, socket = self.request
            socket.sendto(data.strip().upper(), self.client_address)
        else:
            self.request.sendall(self.request.recv(1024).strip().upper())


name, address = sys.argv[1:]
kind = name.removeprefix("Threading").removeprefix("Forking")
mixins = {"Threading": socketserver.ThreadingMixIn, "Forking": socketserver.ForkingMixIn}
mixin = mixins.get(name.removesuffix(kind))
server = getattr(socketserver, kind)
if mixin:
    # The names of all combinations are there since Python 3.12.
    server = type(name, (mixin, server), {})
if hasattr(server, "daemon_threads"):
    server.daemon_threads = True
if "Unix" not in name:
    host, port = address.rsplit(":", 1)
    address = (host, int(port))
with server(address, Handler) as server:
    address = server.server_address
    print(address if isinstance(address, str) else address[1])
    server.serve_forever()
