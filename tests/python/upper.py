"""E3 by CPython's socketserver: its documentation's own example."""

import socketserver


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        data = self.request.recv(1024).strip()
        print("{} wrote:".format(self.client_address[0]))
        print(data.decode(errors="replace"))
        self.request.sendall(data.upper())


with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
    print(server.server_address[1])
    server.serve_forever()
