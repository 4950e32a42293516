"""Handlers of streams as CPython's documentation and the texts have them. `HANDLER` names one."""

import errno
import os
import socket
import socketserver
import time

from sockserve import serve


class Base(socketserver.BaseRequestHandler):
    """CPython's documentation."""

    def handle(self):
        self.data = self.request.recv(1024).strip()
        print("Received from {}:".format(self.client_address[0]))
        print(self.data)
        self.request.sendall(self.data.upper())


class Pieces(socketserver.BaseRequestHandler):
    """CPython's documentation, since 3.13."""

    def handle(self):
        pieces = [b""]
        total = 0
        while b"\n" not in pieces[-1] and total < 10_000:
            pieces.append(self.request.recv(2000))
            total += len(pieces[-1])
        self.data = b"".join(pieces)
        print(f"Received from {self.client_address[0]}:")
        print(self.data.decode("utf-8"))
        self.request.sendall(self.data.upper())


class Stream(socketserver.StreamRequestHandler):
    """CPython's documentation."""

    def handle(self):
        self.data = self.rfile.readline(10000).rstrip()
        print(f"{self.client_address[0]} wrote:")
        print(self.data.decode("utf-8"))
        self.wfile.write(self.data.upper())


class Once(socketserver.BaseRequestHandler):
    """E1."""

    def handle(self):
        self.request.sendall(self.request.recv(100))


class Echo(socketserver.BaseRequestHandler):
    """E2."""

    def handle(self):
        while data := self.request.recv(8192):
            self.request.sendall(data)


class Hello(socketserver.StreamRequestHandler):
    """E6."""

    def handle(self):
        self.wfile.write(b"Hello World!\n")


class Daytime(socketserver.StreamRequestHandler):
    """T1."""

    def handle(self):
        self.wfile.write(time.ctime().encode() + b"\r\n")


class Request(socketserver.BaseRequestHandler):
    """T2."""

    def handle(self):
        print(self.request.recv(1024))
        self.request.sendall(time.ctime().encode() + b"\r\n")


class ByLine(socketserver.BaseRequestHandler):
    """T5."""

    def handle(self):
        while chunk := self.request.recv(1024):
            if b"\r\n" in chunk:
                self.request.sendall(time.ctime().encode() + b"\r\n")


class Files(socketserver.StreamRequestHandler):
    """What `rfile` and `wfile` can do, with output that is buffered."""

    wbufsize = -1
    disable_nagle_algorithm = True

    def handle(self):
        say = lambda *values: self.wfile.write(repr(values).encode() + b"\n")
        say("readline", self.rfile.readline(), self.rfile.readline(3), self.rfile.readline())
        say("read", self.rfile.read(4), self.rfile.readline())
        say("readinto", self.rfile.readinto(bytearray(2)), self.rfile.read(1))
        say("iterated", [line for line in self.rfile])
        say("end", self.rfile.readline(), self.rfile.read(), self.rfile.read(3), self.rfile.read1())
        text = self.request.makefile("w", encoding="utf-8", newline="\n")
        self.wfile.flush()
        print("straße", file=text)
        text.close()
        say(self.rfile.readable(), self.wfile.writable(), self.wfile.closed)


class Socket(socketserver.BaseRequestHandler):
    """What the socket can do."""

    def handle(self):
        say = lambda *values: self.request.sendall(repr(values).encode() + b"\n")
        mine, peer = self.request.getsockname(), self.request.getpeername()
        say("addresses", mine == self.server.server_address, peer == self.client_address, mine[0])
        say("kinds", self.request.family.name, self.request.type.name, self.request.gettimeout())
        say("peek", self.request.recv(2, socket.MSG_PEEK), self.request.recv(1), self.request.recv(2))
        buffer = bytearray(5)
        say("into", self.request.recv_into(buffer), buffer, self.request.recv(0))
        for timeout in [0.05, 0]:
            self.request.settimeout(timeout)
            try:
                self.request.recv(1)
            except OSError as error:
                say("timeout", type(error).__name__)
        self.request.settimeout(None)
        for name in ["SO_KEEPALIVE", "SO_ERROR"]:
            if name == "SO_KEEPALIVE":
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            say(name, self.request.getsockopt(socket.SOL_SOCKET, getattr(socket, name)))
        for name, value in [("TCP_NODELAY", 1), ("TCP_KEEPIDLE", 33), ("TCP_KEEPCNT", 4)]:
            option = getattr(socket, name)
            self.request.setsockopt(socket.IPPROTO_TCP, option, value)
            say(name, self.request.getsockopt(socket.IPPROTO_TCP, option))
        self.request.shutdown(socket.SHUT_WR)
        try:
            self.request.send(b"late")
        except OSError as error:
            print("after shutdown:", type(error).__name__)
        print("to the end:", self.request.recv(100), self.request.recv(100))
        self.request.close()
        try:
            self.request.recv(1)
        except OSError as error:
            print("after close:", errno.errorcode[error.errno])


class Failing(socketserver.StreamRequestHandler):
    """S1 and S8: `finish` runs, whatever has happened in `handle`."""

    def setup(self):
        super().setup()
        self.wfile.write(b"setup\n")

    def handle(self):
        self.wfile.write(b"handle\n")
        raise ValueError("deliberate failure")

    def finish(self):
        self.wfile.write(b"finish\n")
        super().finish()


class Chosen(socketserver.BaseRequestHandler):
    def __new__(cls, *arguments):
        return globals()[os.environ["HANDLER"]](*arguments)


serve(Chosen)
