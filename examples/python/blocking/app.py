"""Each line comes back in upper case. Another version of this, or of a handler in another language, can
take the connection over in the middle of a line."""

import socketserver

from sockserve import serve


class Handler(socketserver.StreamRequestHandler):
    state_tag = "echo/1"

    def handle(self):
        for line in self.rfile:
            print(f"{self.client_address[0]} wrote: {line.decode(errors='replace').rstrip()}")
            self.wfile.write(line.upper())


serve(Handler)
