"""Each line comes back in upper case, on a connection that stays open. A line that is half read goes to
the next version with its connection, and to the guests `echo` and `upper`, which have the same state."""

import socketserver

from sockserve import serve


class Lines(socketserver.StreamRequestHandler):
    state_tag = "echo/1"

    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())


serve(Lines)
