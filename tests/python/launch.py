"""Opens sockets and becomes a program that inherits them, as a service manager does.

activate KIND... NAMES -- PROGRAM...   descriptors from 3 on, with LISTEN_FDS and so on
twice KIND -- PROGRAM...               two processes, one after the other, on one listener
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys


def make(kind):
    if kind == "tcp":
        return socket.create_server(("127.0.0.1", 0))
    if kind == "dual":
        # For both families: an IPv4 peer has an IPv4-mapped address there.
        return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    if kind == "udp":
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", 0))
        return made
    if kind == "file":
        return open("/dev/null")
    if kind == "connection":
        one, other = socket.socketpair()
        os.set_inheritable(other.detach(), True)
        return one
    datagram = kind.startswith("dgram:")
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM)
    made.bind(kind.removeprefix("dgram:"))
    if not datagram:
        made.listen()
    return made


def place(sockets):
    """Puts the sockets at 3 and on."""
    # First out of the way of each other.
    high = [fcntl.fcntl(made.fileno(), fcntl.F_DUPFD, 100) for made in sockets]
    for number, copy in enumerate(high, 3):
        os.dup2(copy, number, inheritable=True)


def activate(sockets, names, program):
    place(sockets)
    os.environ["LISTEN_FDS"] = str(len(sockets))
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDNAMES"] = names
    os.execv(program[0], program)


def twice(listener, program):
    address = listener.getsockname()
    os.set_inheritable(listener.fileno(), True)
    number = listener.fileno()
    assert number == 3, number

    def start():
        process = subprocess.Popen(program, pass_fds=[3], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline().startswith("listening tcp://")
        return process

    first = start()
    first.send_signal(signal.SIGTERM)
    assert first.wait() == 0
    # They wait in the backlog until the second process is there.
    peers = [socket.create_connection(address, timeout=20) for _ in range(50)]
    second = start()
    answered = 0
    for peer in peers:
        peer.sendall(b"x")
        answered += peer.recv(1) == b"x"
        peer.close()
    print("answered", answered, flush=True)
    second.send_signal(signal.SIGTERM)
    assert second.wait() == 0


mode, *rest = sys.argv[1:]
at = rest.index("--")
arguments, program = rest[:at], rest[at + 1 :]
if mode == "twice":
    twice(make(arguments[0]), program)
else:
    *kinds, names = arguments
    activate([make(kind) for kind in kinds], names, program)
