# Echoes its connection line by line, which is its standard input and output. The line
# `who` is answered with the peer's address instead.

import os
import sys

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        print("hello from Python", file=sys.stderr, flush=True)
        for line in sys.stdin.buffer:
            if line == b"who\n":
                names = ["PROTO", "TCPREMOTEIP", "TCPREMOTEPORT"]
                line = "{} {}:{}\n".format(*map(os.environ.get, names)).encode()
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
