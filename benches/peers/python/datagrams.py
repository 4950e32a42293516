"""An echo of datagrams with CPython's UDPServer, for the benchmark."""

import socketserver


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(data, self.client_address)


with socketserver.UDPServer(("127.0.0.1", 0), Echo) as server:
    print("listening udp://%s:%d" % server.server_address, flush=True)
    server.serve_forever()
