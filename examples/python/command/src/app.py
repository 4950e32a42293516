"""Each line comes back in upper case. Standard input and output are the connection, and each connection
has an instance of its own, as under inetd."""

import sys

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        for line in sys.stdin.buffer:
            sys.stdout.buffer.write(line.upper())
            sys.stdout.buffer.flush()
