"""`lines.py` by events: one instance for all connections."""

from sockserve import serve
from sockserve.asynchat import async_chat


class Lines(async_chat):
    state_tag = "echo/1"

    def __init__(self, sock):
        async_chat.__init__(self, sock)
        self.set_terminator(b"\n")

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        self.push(self._get_data().upper() + b"\n")


serve(Lines)
