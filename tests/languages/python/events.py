"""Handlers of events as the texts have them. `HANDLER` names one."""

import os
import socket
import time

from sockserve import serve
from sockserve import asynchat, asyncore


def ctime():
    return time.ctime().encode() + b"\r\n"


class ByEvent(asyncore.dispatcher):
    """T6."""

    def __init__(self, sock):
        asyncore.dispatcher.__init__(self, sock)
        self.wants_time = False

    def handle_read(self):
        if self.recv(1024):
            self.wants_time = True

    def writable(self):
        return self.wants_time

    def handle_write(self):
        self.send(ctime())
        self.wants_time = False

    def handle_close(self):
        self.close()


class Echo(asyncore.dispatcher_with_send):
    """CPython's documentation."""

    def handle_read(self):
        data = self.recv(8192)
        if data:
            self.send(data)


class ByTerminator(asynchat.async_chat):
    """T7. `TERMINATOR` is a count, `none`, or an empty line."""

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        terminator = os.environ.get("TERMINATOR", "line")
        terminators = {"line": b"\r\n\r\n", "none": None}
        self.set_terminator(terminators[terminator] if terminator in terminators else int(terminator))
        self.data = []

    def collect_incoming_data(self, data):
        self.data.append(data)

    def found_terminator(self):
        print(b"".join(self.data))
        self.push(ctime())
        self.close_when_done()


class Head(asynchat.async_chat):
    """A line says how many bytes follow it. They come back by a producer."""

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b"\n")
        self.sizes = []

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        data = self._get_data()
        if isinstance(self.get_terminator(), bytes):
            self.set_terminator(int(data))
            return
        self.push(b"%d bytes: " % len(data))
        self.push_with_producer(Pieces(data, self.sizes))
        self.push(b"\n")
        self.set_terminator(b"\n")
        if data == b"bye":
            self.discard_buffers()
            self.push(b"bye\n")
            self.close_when_done()


class Pieces(asynchat.simple_producer):
    def __init__(self, data, sizes):
        asynchat.simple_producer.__init__(self, data)
        self.sizes = sizes

    def more(self):
        piece = asynchat.simple_producer.more(self)
        if piece:
            print("producer:", len(piece))
        return piece


class Failing(asyncore.dispatcher_with_send):
    """An exception costs its own connection."""

    def handle_read(self):
        data = self.recv(8192)
        if data.startswith(b"fail twice"):
            self.out_buffer = None
        if data.startswith(b"fail"):
            raise ValueError("deliberate failure")
        self.send(data)

    def handle_error(self):
        self.send(b"error\n")
        asyncore.dispatcher.handle_error(self)


class Slow(asyncore.dispatcher_with_send):
    """Computes for 20 ms for each read, and answers with how many there were. After `rest` it only waits
    for its end."""

    reads = 0
    rests = False

    def readable(self):
        return not self.rests

    def handle_close(self):
        if self.rests:
            print("closed at rest")
        self.close()

    def handle_read(self):
        data = self.recv(65536)
        if not data:
            return
        if data == b"rest":
            self.rests = True
            self.send(b"resting\n")
            self.socket.shutdown(socket.SHUT_WR)
            return
        begun = time.monotonic()
        while time.monotonic() - begun < 0.02:
            pass
        Slow.reads += 1
        self.send(b"%d\n" % Slow.reads)


def handler(sock):
    return globals()[os.environ["HANDLER"]](sock)


class Chosen(asyncore.dispatcher):
    def __new__(cls, sock):
        return handler(sock)


serve(Chosen)
