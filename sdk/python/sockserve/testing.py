"""Starts `sockserve serve` for a test. The variable `SOCKSERVE` names the binary (default: `sockserve` in
`PATH`)."""

from __future__ import annotations

import os
import socket
import subprocess


class Server:
    """Serves a component, from `with` to its end, at a port that the system chooses: `address`."""

    def __init__(self, component: str, *options: str, transport: str = "tcp") -> None:
        self.command = [
            os.environ.get("SOCKSERVE", "sockserve"),
            "serve",
            component,
            "--listen",
            f"{transport}://127.0.0.1:0",
            *options,
        ]

    def __enter__(self) -> Server:
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        # `listening tcp://127.0.0.1:PORT service=…`
        ready = self.process.stdout.readline().split()
        if ready[:1] != ["listening"]:
            self.process.wait()
            raise RuntimeError(f"{' '.join(self.command)}: it does not listen")
        self.address = ("127.0.0.1", int(ready[1].rsplit(":", 1)[1]))
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)
