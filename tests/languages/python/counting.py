"""Answers each line with how many have come over this connection, and the name before. What the handler
remembers goes to the next version."""

import socketserver

from sockserve import serve


class Counting(socketserver.StreamRequestHandler):
    state_tag = "counting/1"
    count = 0
    name = "nobody"

    def handle(self):
        for line in self.rfile:
            self.count += 1
            self.wfile.write(f"{self.count} {self.name}\n".encode())
            self.name = line.decode().strip()

    def save(self):
        return {"count": self.count, "name": self.name}

    def resume(self, state):
        self.count, self.name = state["count"], state["name"]


serve(Counting)
