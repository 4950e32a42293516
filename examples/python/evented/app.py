"""A chat room: one instance for all members, so the room is a dictionary."""

from sockserve import serve
from sockserve.asynchat import async_chat
from sockserve.asyncore import socket_map


class Member(async_chat):
    def __init__(self, sock):
        super().__init__(sock)
        self.name = "{}:{}".format(*self.addr)
        self.set_terminator(b"\n")
        self.push(b"You're connected to the sockserve chatserver\r\n")
        self.tell(f"Client joined {self.name}\r\n".encode())

    def tell(self, line):
        print(line.decode(errors="replace").rstrip())
        for member in list(socket_map.values()):
            if member is not self:
                member.push(line)

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        self.tell(f"[{self.name}] ".encode() + self._get_data() + b"\n")

    def handle_close(self):
        self.close()
        self.tell(f"Client left {self.name}\r\n".encode())


serve(Member)
