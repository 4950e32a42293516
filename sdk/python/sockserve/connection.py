"""An accepted connection, with the methods of CPython's `socket.socket`.

It ends when the handler is done with it. What WASI has no words for raises `OSError` with the
number that the system would give.
"""

from __future__ import annotations

import errno
import os
import socket as names
from typing import Any, Callable

from componentize_py_types import Err
from wit_world.imports import monotonic_clock, network, poll, streams, tcp

from . import addresses, files
from .addresses import Address

#: A read takes no more than this, and a write no more than the host permits.
CHUNK = 65536


class Draining(BaseException):
    """The connection is to be handed over. No handler is meant to catch this."""


class Connection:
    """`number` is the one of the host's log. `draining` is ready when the connection is to be handed
    over, if that can be."""

    type = names.SOCK_STREAM
    proto = names.IPPROTO_TCP

    def __init__(
        self, socket: Any, input: Any, output: Any, number: int = 0, draining: Any = None
    ) -> None:
        self._socket = socket
        self._input = input
        self._output = output
        self._draining = draining
        self._timeout: float | None = None
        self._files = 0
        self._closed = False
        self._peer: Address | str | None = None
        self.number = number
        #: What was read from the peer, and by no handler yet.
        self.unread = bytearray()

    # How it ends.

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Sends FIN after everything that was written, once the files are closed too."""
        self._closed = True
        if self._files <= 0 and self.is_open:
            try:
                self._socket.shutdown(tcp.ShutdownType.SEND)
            except Err:
                pass
            self.release()

    def detach(self) -> int:
        raise unsupported("detach")

    def fileno(self) -> int:
        """Not a descriptor: the component has none. -1 when it is closed."""
        return self.number if self.is_open else -1

    def file_opened(self, count: int) -> None:
        self._files += count

    def file_closed(self) -> None:
        self._files -= 1
        if self._closed:
            self.close()

    def release(self) -> None:
        """Gives everything back to the host, and leaves the connection as it is."""
        # The streams belong to the socket, and the pollable to the connection.
        for resource in (self._draining, self._input, self._output, self._socket):
            if resource is not None:
                resource.__exit__(None, None, None)
        self._draining = self._input = self._output = self._socket = None

    # Input.

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        if flags & names.MSG_WAITALL:
            while len(self.unread) < bufsize and self.read_ahead():
                pass
        elif flags & names.MSG_PEEK:
            if not self.unread:
                self.read_ahead()
            return bytes(self.unread[:bufsize])
        if self.unread or bufsize == 0:
            return self.take(bufsize)
        return self._read(bufsize)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, None]:
        return self.recv(bufsize, flags), None

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, None]:
        return self.recv_into(buffer, nbytes, flags), None

    def read_ahead(self) -> bool:
        """Whether there was more. Not at the end of file."""
        data = self._read(CHUNK)
        self.unread += data
        return bool(data)

    def take(self, size: int) -> bytes:
        """At most `size` bytes of `unread`; all if it is negative."""
        if size < 0:
            size = len(self.unread)
        data = bytes(self.unread[:size])
        del self.unread[:size]
        return data

    def _read(self, size: int) -> bytes:
        self._check_open()
        size = min(size, CHUNK)
        while True:
            if self._draining is not None and self._draining.ready():
                raise Draining
            try:
                if self._timeout is None:
                    data = self._input.blocking_read(size)
                else:
                    data = self._input.read(size)
            except Err as error:
                if isinstance(error.value, streams.StreamError_Closed):
                    return b""
                raise lost(error, ConnectionResetError, errno.ECONNRESET) from None
            if data:
                return data
            # With a draining connection a wait may end without any byte.
            if self._timeout is not None:
                self._wait(self._input)

    # Output.

    def send(self, data: Any, flags: int = 0) -> int:
        view = memoryview(data).cast("B")
        self._check_open()
        try:
            while (room := self._output.check_write()) == 0:
                self._wait(self._output)
            piece = bytes(view[:room])
            self._output.write(piece)
        except Err as error:
            raise lost(error, BrokenPipeError, errno.EPIPE) from None
        return len(piece)

    def sendall(self, data: Any, flags: int = 0) -> None:
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view) :]

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        if offset:
            file.seek(offset)
        sent = 0
        while count is None or sent < count:
            piece = file.read(CHUNK if count is None else min(CHUNK, count - sent))
            if not piece:
                break
            self.sendall(piece)
            sent += len(piece)
        return sent

    def shutdown(self, how: int) -> None:
        self._check_open()
        kinds = {
            names.SHUT_RD: tcp.ShutdownType.RECEIVE,
            names.SHUT_WR: tcp.ShutdownType.SEND,
            names.SHUT_RDWR: tcp.ShutdownType.BOTH,
        }
        if how not in kinds:
            raise error_of(errno.EINVAL)
        call(self._socket.shutdown, kinds[how])

    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        return files.make(self, mode, buffering, encoding, errors, newline)

    # Waiting.

    def settimeout(self, value: float | None) -> None:
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._timeout = value

    def gettimeout(self) -> float | None:
        return self._timeout

    timeout = property(gettimeout)

    def setblocking(self, flag: bool) -> None:
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        return self._timeout != 0

    def _wait(self, stream: Any) -> None:
        if self._timeout == 0:
            raise error_of(errno.EAGAIN)
        with stream.subscribe() as ready:
            if self._timeout is None:
                ready.block()
                return
            nanoseconds = int(self._timeout * 1e9)
            with monotonic_clock.subscribe_duration(nanoseconds) as alarm:
                if 0 not in poll.poll([ready, alarm]):
                    raise TimeoutError("timed out")

    # Addresses and options.

    @property
    def family(self) -> names.AddressFamily:
        self._check_open()
        is_ipv4 = self._socket.address_family() == network.IpAddressFamily.IPV4
        return names.AF_INET if is_ipv4 else names.AF_INET6

    def getpeername(self) -> Address | str:
        """An empty string over a Unix socket, as for a client that is not bound."""
        self._check_open()
        return self._address(self._socket.remote_address)

    def getsockname(self) -> Address | str:
        """An empty string over a Unix socket."""
        self._check_open()
        return self._address(self._socket.local_address)

    @staticmethod
    def _address(ask: Callable[[], Any]) -> Address | str:
        try:
            return addresses.from_wasi(ask())
        except Err as error:
            if error.value == network.ErrorCode.NOT_SUPPORTED:
                return ""
            raise os_error(error) from None

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        self._check_open()
        if (level, optname) == (names.IPPROTO_TCP, names.TCP_NODELAY):
            # The host sets it for all connections.
            if not value:
                raise error_of(errno.ENOPROTOOPT)
            return
        name, scale = self._option(level, optname)
        value = bool(value) if scale is None else int(value) * scale
        call(getattr(self._socket, f"set_{name}"), value)

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> int:
        self._check_open()
        if (level, optname) == (names.IPPROTO_TCP, names.TCP_NODELAY):
            return 1
        if (level, optname) == (names.SOL_SOCKET, names.SO_ERROR):
            return 0
        if (level, optname) == (names.SOL_SOCKET, names.SO_TYPE):
            return int(self.type)
        name, scale = self._option(level, optname)
        return int(call(getattr(self._socket, name))) // (scale or 1)

    def _option(self, level: int, optname: int) -> tuple[str, int | None]:
        """The option of WASI, and how many of its units one is. `None` if it is on or off."""
        option = OPTIONS.get((level, optname))
        if option is None:
            raise error_of(errno.ENOPROTOOPT)
        return option

    def _check_open(self) -> None:
        if not self.is_open:
            raise error_of(errno.EBADF)


SECOND = 1_000_000_000

OPTIONS: dict[tuple[int, int], tuple[str, int | None]] = {
    (names.SOL_SOCKET, names.SO_KEEPALIVE): ("keep_alive_enabled", None),
    (names.SOL_SOCKET, names.SO_RCVBUF): ("receive_buffer_size", 1),
    (names.SOL_SOCKET, names.SO_SNDBUF): ("send_buffer_size", 1),
    (names.IPPROTO_TCP, names.TCP_KEEPIDLE): ("keep_alive_idle_time", SECOND),
    (names.IPPROTO_TCP, names.TCP_KEEPINTVL): ("keep_alive_interval", SECOND),
    (names.IPPROTO_TCP, names.TCP_KEEPCNT): ("keep_alive_count", 1),
    (names.IPPROTO_IP, names.IP_TTL): ("hop_limit", 1),
    (names.IPPROTO_IPV6, names.IPV6_UNICAST_HOPS): ("hop_limit", 1),
}

#: What the system calls the errors of WASI that an accepted connection can have.
ERRORS = {
    network.ErrorCode.ACCESS_DENIED: errno.EACCES,
    network.ErrorCode.NOT_SUPPORTED: errno.EOPNOTSUPP,
    network.ErrorCode.INVALID_ARGUMENT: errno.EINVAL,
    network.ErrorCode.OUT_OF_MEMORY: errno.ENOMEM,
    network.ErrorCode.INVALID_STATE: errno.ENOTCONN,
    network.ErrorCode.CONNECTION_RESET: errno.ECONNRESET,
    network.ErrorCode.CONNECTION_ABORTED: errno.ECONNABORTED,
}


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Err as error:
        raise os_error(error) from None


def os_error(error: Any) -> OSError:
    return error_of(ERRORS.get(error.value, errno.EIO))


def error_of(number: int) -> OSError:
    """`OSError` makes the subclass that goes with the number."""
    return OSError(number, os.strerror(number))


def unsupported(name: str) -> OSError:
    return OSError(errno.EOPNOTSUPP, f"a connection of a component has no {name}")


def lost(error: Any, otherwise: type[OSError], number: int) -> OSError:
    """Why a stream has failed: the host says it in words only."""
    if isinstance(error.value, streams.StreamError_LastOperationFailed):
        with error.value.value as reason:
            if "reset" in reason.to_debug_string().lower():
                return error_of(errno.ECONNRESET)
    return otherwise(number, os.strerror(number))
