"""K1 to K4, R3 and R4 by CPython's socket and select: the arguments and the lines of the guests
`client` and `sockets`.

stream PLACE [TEXT] | datagram PLACE | connected PLACE | slow PLACE [MS] | two PLACE
either PLACE PLACE [MS] | typed
"""

import select
import socket
import sys
import time


def address(place):
    host, port = place.rsplit(":", 1)
    return host.strip("[]"), int(port)


def connect(place):
    return socket.create_connection(address(place))


def show(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def exchange(sock, text):
    sock.sendall(text)
    show(sock.recv(1024))


def stream(place, text="Hello World\n"):
    with connect(place) as sock:
        exchange(sock, text.encode())


def unconnected(place):
    family = socket.AF_INET6 if place.startswith("[") else socket.AF_INET
    return socket.socket(family, socket.SOCK_DGRAM)


def datagram(place):
    with unconnected(place) as sock:
        sock.sendto(b"Hello World", address(place))
        data, sender = sock.recvfrom(1024)
        assert sender[:2] == address(place), sender
        show(data + b"\n")


def connected(place):
    with unconnected(place) as sock:
        sock.connect(address(place))
        sock.send(b"Hello World")
        show(sock.recv(1024) + b"\n")


def slow(place, milliseconds="5000"):
    with connect(place) as sock:
        time.sleep(int(milliseconds) / 1000)
        sock.sendall(b"Hello")
        show(b"The time is " + sock.recv(1024))


def two(place):
    with connect(place) as sock:
        exchange(sock, b"first\n")
        time.sleep(1)
        exchange(sock, b"second\n")


def either(first, second, milliseconds="5000"):
    waiting = [connect(first), connect(second)]
    while waiting:
        readable, _, _ = select.select(waiting, [], [], int(milliseconds) / 1000)
        if not readable:
            number = "Five seconds" if milliseconds == "5000" else f"{milliseconds} milliseconds"
            print(number, "elapsed.")
            return
        for sock in readable:
            data = sock.recv(1024)
            if data:
                show(data)
            else:
                waiting.remove(sock)
                sock.close()


def typed():
    for line in sys.stdin:
        print("typed:", line.rstrip("\n"))


name, *arguments = sys.argv[1:]
commands = (stream, datagram, connected, slow, two, either, typed)
{command.__name__: command for command in commands}[name](*arguments)
