"""T5 by CPython's socketserver: every chunk that holds a line ending is answered
with the time."""

import socketserver
import time


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while True:
            chunk = self.request.recv(1024)
            if not chunk:
                return
            if b"\r\n" in chunk:
                self.request.sendall(time.ctime().encode() + b"\r\n")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


with Server(("127.0.0.1", 0), Handler) as server:
    print(server.server_address[1])
    server.serve_forever()
