"""A connection as a file: what `makefile` returns.

The bytes that were read ahead stay in the connection, and not in the file. So they are there for
`recv`, for another file, and for the handler that takes the connection over.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection import Connection


class Input(io.BufferedIOBase):
    """Reads from a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def peek(self, size: int = 0, /) -> bytes:
        unread = self._connection.unread
        if not unread:
            self._connection.read_ahead()
        return bytes(unread)

    def read1(self, size: int = -1, /) -> bytes:
        self.peek()
        return self._connection.take(size)

    def read(self, size: int | None = -1, /) -> bytes:
        unread = self._connection.unread
        everything = size is None or size < 0
        while everything or len(unread) < size:  # type: ignore[operator]
            if not self._connection.read_ahead():
                break
        return self._connection.take(-1 if everything else size)  # type: ignore[arg-type]

    def readline(self, size: int | None = -1, /) -> bytes:
        unread = self._connection.unread
        limit = float("inf") if size is None or size < 0 else size
        searched = 0
        while True:
            end = unread.find(b"\n", searched) + 1
            if end or len(unread) >= limit:
                return self._connection.take(int(min(end or limit, limit)))
            searched = len(unread)
            if not self._connection.read_ahead():
                return self._connection.take(-1)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._connection.file_closed()


class Output(io.RawIOBase):
    """Writes to a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return self._connection.send(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._connection.file_closed()


class Both(Input):
    """Reads and writes."""

    def __init__(self, connection: Connection, writer: Any) -> None:
        super().__init__(connection)
        self._writer = writer

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return self._writer.write(data)

    def flush(self) -> None:
        # Also called at the end of a constructor that has failed.
        if hasattr(self, "_writer"):
            self._writer.flush()

    def close(self) -> None:
        if not self.closed:
            self._writer.close()
            super().close()


def make(
    connection: Connection,
    mode: str,
    buffering: int | None,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> Any:
    """`socket.makefile`."""
    if not set(mode) <= set("rwb"):
        raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
    if buffering is None or buffering < 0:
        buffering = io.DEFAULT_BUFFER_SIZE
    binary = "b" in mode
    if buffering == 0 and not binary:
        raise ValueError("unbuffered streams must be binary")
    reads, writes = "r" in mode or "w" not in mode, "w" in mode
    connection.file_opened(reads + writes)
    file: Any = Output(connection) if writes else Input(connection)
    if writes and buffering:
        file = io.BufferedWriter(file, buffering)
    if reads and writes:
        file = Both(connection, file)
    if binary:
        return file
    text = io.TextIOWrapper(file, encoding, errors, newline)
    text.mode = mode  # type: ignore[misc]
    return text
