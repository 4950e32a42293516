"""Each datagram comes back in upper case."""

import socketserver

from sockserve import serve


class Handler(socketserver.DatagramRequestHandler):
    def handle(self):
        data = self.rfile.read()
        print(f"{self.client_address[0]} wrote: {data.decode(errors='replace')}")
        self.wfile.write(data.upper())


serve(Handler)
