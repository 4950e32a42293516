"""C1 to C5 by CPython's select: the chat server of the texts."""

import select
import socket


class ChatServer:
    def __init__(self):
        self.server = socket.create_server(("127.0.0.1", 0), backlog=5)
        self.descriptors = [self.server]
        print(self.server.getsockname()[1])

    def run(self):
        while True:
            readable, _, _ = select.select(self.descriptors, [], [])
            for sock in readable:
                if sock is self.server:
                    self.accept_new_connection()
                    continue
                chunk = sock.recv(1024)
                host, port = sock.getpeername()
                if chunk:
                    self.broadcast(f"[{host}:{port}] ".encode() + chunk, sock)
                else:
                    self.broadcast(f"Client left {host}:{port}\r\n".encode(), sock)
                    sock.close()
                    self.descriptors.remove(sock)

    def broadcast(self, line, sender):
        for sock in self.descriptors:
            if sock is not self.server and sock is not sender:
                sock.sendall(line)
        print(line.decode().rstrip("\r\n"))

    def accept_new_connection(self):
        sock, (host, port) = self.server.accept()
        self.descriptors.append(sock)
        sock.sendall(b"You're connected to the Python chatserver\r\n")
        self.broadcast(f"Client joined {host}:{port}\r\n".encode(), sock)


ChatServer().run()
