"""Handlers of readiness events, with the names of the module `asyncore`, which CPython 3.12 took out.

There is no `loop`: the host waits, and calls. It has accepted a connection when a dispatcher is made
for it. A dispatcher must not wait.

What is different: there is one map of sockets, and a dispatcher has no connection of its own making.
`handle_accepted` of a dispatcher that listens is called, and what it has bound to is the host's
`--listen`.
"""

from __future__ import annotations

import errno
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection import Connection

#: What means that there is no connection any more.
DISCONNECTED = frozenset(
    {errno.ECONNRESET, errno.ENOTCONN, errno.ECONNABORTED, errno.EPIPE, errno.EBADF}
)

#: The dispatchers with a connection that is open, by the number of the connection.
socket_map: dict[int, dispatcher] = {}


class ExitNow(Exception):
    """Ends the component's instance, as it ends `asyncore.loop`, and with it every connection."""


class dispatcher:
    """The handler of one connection, or, with no connection, of accepting them."""

    debug = False
    ignore_log_types = frozenset({"warning"})
    connected = False
    accepting = False
    connecting = False
    closing = False
    addr: Any = None
    #: Why the connection has failed, for the log.
    failure: str | None = None

    def __init__(self, sock: Connection | None = None, map: Any = None) -> None:
        self.socket = sock
        self._incoming: list[tuple[Connection, Any]] = []
        if sock is not None:
            self.connected = True
            self.addr = sock.getpeername()
            socket_map[sock.number] = self

    def __repr__(self) -> str:
        state = "listening " if self.accepting else "connected " if self.connected else ""
        return f"<{type(self).__module__}.{type(self).__qualname__} {state}{self.addr} at {id(self):#x}>"

    # A dispatcher that listens: the host does these things.

    def create_socket(self, family: int = 0, type: int = 0) -> None:
        pass

    def set_reuse_addr(self) -> None:
        pass

    def bind(self, addr: Any) -> None:
        self.addr = addr

    def listen(self, num: int) -> None:
        self.accepting = True

    def accept(self) -> tuple[Connection, Any] | None:
        return self._incoming.pop(0) if self._incoming else None

    # A dispatcher with a connection.

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def recv(self, buffer_size: int) -> bytes:
        """No bytes at the end of file, after `handle_close`, and when nothing has come."""
        try:
            data = self._connection.recv(buffer_size)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno not in DISCONNECTED:
                raise
            self.handle_close()
            return b""
        if not data:
            self.handle_close()
        return data

    def send(self, data: Any) -> int:
        """How many bytes were taken. None after `handle_close`, and when there is no room."""
        try:
            return self._connection.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in DISCONNECTED:
                raise
            self.handle_close()
            return 0

    def close(self) -> None:
        self.connected = self.accepting = self.connecting = False
        if self.socket is not None:
            socket_map.pop(self.socket.number, None)
            self.socket.close()

    @property
    def _connection(self) -> Connection:
        if self.socket is None:
            raise OSError("this dispatcher has no connection")
        return self.socket

    # What the host's events become.

    def handle_read_event(self) -> None:
        self.handle_read()

    def handle_write_event(self) -> None:
        self.handle_write()

    def handle_expt_event(self) -> None:
        self.handle_close()

    # For a subclass to replace.

    def handle_read(self) -> None:
        self.log_info("unhandled read event", "warning")

    def handle_write(self) -> None:
        self.log_info("unhandled write event", "warning")

    def handle_expt(self) -> None:
        self.log_info("unhandled incoming priority event", "warning")

    def handle_connect(self) -> None:
        self.log_info("unhandled connect event", "warning")

    def handle_accept(self) -> None:
        pair = self.accept()
        if pair is not None:
            self.handle_accepted(*pair)

    def handle_accepted(self, sock: Connection, addr: Any) -> None:
        sock.close()
        self.log_info("unhandled accepted event", "warning")

    def handle_close(self) -> None:
        self.log_info("unhandled close event", "warning")
        self.close()

    def handle_error(self) -> None:
        """Called while the exception is handled. The connection ends, and counts as failed."""
        error = sys.exc_info()[1]
        traceback.print_exc()
        self.failure = " ".join(f"{type(error).__name__}: {error}".split())
        self.handle_close()

    def log(self, message: str) -> None:
        sys.stderr.write(f"log: {message}\n")

    def log_info(self, message: str, type: str = "info") -> None:
        if type not in self.ignore_log_types:
            print(f"{type}: {message}")

    # What is handed over with the connection, beside what `save` returns.

    def unsent(self) -> bytes | None:
        """Output that waits to be written. `None` if it is not known yet."""
        return b""

    def unread(self) -> bytes:
        """Input that is half read, and comes again where the connection goes on."""
        return b""

    def write_first(self, data: bytes) -> None:
        """Takes output of the version before."""
        if data:
            raise ValueError(f"{type(self).__name__} has no queue for unsent output")


class dispatcher_with_send(dispatcher):
    """Keeps what there is no room for, and sends it later."""

    def __init__(self, sock: Connection | None = None, map: Any = None) -> None:
        super().__init__(sock, map)
        self.out_buffer = b""

    def initiate_send(self) -> None:
        sent = super().send(self.out_buffer[:65536])
        self.out_buffer = self.out_buffer[sent:]

    def handle_write(self) -> None:
        self.initiate_send()

    def writable(self) -> bool:
        return bool(self.out_buffer)

    def send(self, data: Any) -> None:  # type: ignore[override]
        self.out_buffer += data
        self.initiate_send()

    def unsent(self) -> bytes | None:
        return self.out_buffer

    def write_first(self, data: bytes) -> None:
        self.out_buffer = data + self.out_buffer


def close_all(map: Any = None, ignore_all: bool = False) -> None:
    for channel in list(socket_map.values()):
        channel.close()
    socket_map.clear()
