"""Handlers of datagrams as CPython's documentation and the texts have them. `HANDLER` names one."""

import os
import socketserver

from sockserve import serve


class Doc(socketserver.BaseRequestHandler):
    """CPython's documentation."""

    def handle(self):
        data = self.request[0].strip()
        socket = self.request[1]
        print(f"{self.client_address[0]} wrote:")
        print(data)
        socket.sendto(data.upper(), self.client_address)


class Echo(socketserver.DatagramRequestHandler):
    """E4."""

    def handle(self):
        self.wfile.write(self.rfile.read())


class Prefix(socketserver.BaseRequestHandler):
    """E5."""

    def handle(self):
        data, socket = self.request
        print("connection from", self.client_address[0])
        socket.sendto(b"echo:" + data, self.client_address)


class Address(socketserver.DatagramRequestHandler):
    def handle(self):
        if self.packet == b"fail":
            raise ValueError("deliberate failure")
        mine = self.socket.getsockname() == self.server.server_address
        self.wfile.write(repr((self.client_address, mine, self.server.max_packet_size)).encode())


class Counted(socketserver.DatagramRequestHandler):
    """How many datagrams this instance has had, and those before it."""

    count = 0
    instance_tag = "counted/1"

    def handle(self):
        Counted.count += 1
        self.wfile.write(str(Counted.count).encode())

    @classmethod
    def save_instance(cls):
        return {"count": cls.count}

    @classmethod
    def restore_instance(cls, saved):
        cls.count = saved["count"]


class Ticks(socketserver.BaseRequestHandler):
    """How often the server was called between requests."""

    def handle(self):
        data, socket = self.request
        socket.sendto(str(Server.ticks).encode(), self.client_address)


class Server(socketserver.UDPServer):
    ticks = 0

    def service_actions(self):
        Server.ticks += 1

    def verify_request(self, request, client_address):
        return request[0] != b"refused"


class Chosen(socketserver.BaseRequestHandler):
    instance_tag = Counted.instance_tag
    save_instance = Counted.save_instance
    restore_instance = Counted.restore_instance

    def __new__(cls, *arguments):
        return globals()[os.environ["HANDLER"]](*arguments)


serve(Chosen, Server)
