"""Handlers of input up to a terminator, with the names of the module `asynchat`, which CPython 3.12
took out."""

from __future__ import annotations

from collections import deque
from typing import Any

from . import asyncore


class simple_producer:
    """Gives data in pieces of `buffer_size` bytes."""

    def __init__(self, data: bytes, buffer_size: int = 512) -> None:
        self.data = data
        self.buffer_size = buffer_size

    def more(self) -> bytes:
        """The next piece; no bytes at the end."""
        piece, self.data = self.data[: self.buffer_size], self.data[self.buffer_size :]
        return piece


class async_chat(asyncore.dispatcher):
    """Collects input up to a terminator, and has a queue of output.

    A subclass has `collect_incoming_data(data)` and `found_terminator()`.
    """

    ac_in_buffer_size = 65536
    ac_out_buffer_size = 65536
    use_encoding = False
    encoding = "latin-1"

    def __init__(self, sock: Any = None, map: Any = None) -> None:
        super().__init__(sock, map)
        self.ac_in_buffer = b""
        self.incoming: list[bytes] = []
        #: Bytes, producers, and `None` where the connection is to be closed.
        self.producer_fifo: deque[Any] = deque()
        self.terminator: bytes | int | None = None
        # Collected since the last terminator, for another version to collect again.
        self._half_read = b""

    def collect_incoming_data(self, data: bytes) -> None:
        raise NotImplementedError("must be implemented in subclass")

    def found_terminator(self) -> None:
        raise NotImplementedError("must be implemented in subclass")

    def _collect_incoming_data(self, data: bytes) -> None:
        self.incoming.append(data)

    def _get_data(self) -> bytes:
        data = b"".join(self.incoming)
        self.incoming.clear()
        return data

    def set_terminator(self, term: bytes | str | int | None) -> None:
        """Bytes, or how many bytes to collect, or `None` to collect for ever."""
        if isinstance(term, str):
            term = term.encode(self.encoding)
        elif isinstance(term, int) and term < 0:
            raise ValueError("the number of received bytes must be positive")
        self.terminator = term

    def get_terminator(self) -> bytes | int | None:
        return self.terminator

    # Input.

    def handle_read(self) -> None:
        self.ac_in_buffer += self.recv(self.ac_in_buffer_size)
        # A terminator may be changed, and the connection closed, at each one that is found.
        while self.ac_in_buffer:
            terminator = self.get_terminator()
            if not terminator:
                self._collect(len(self.ac_in_buffer))
            elif isinstance(terminator, int):
                count = min(terminator, len(self.ac_in_buffer))
                self._collect(count)
                self.terminator = terminator - count
                if self.terminator == 0:
                    self._found()
            else:
                start = self.ac_in_buffer.find(terminator)
                if start < 0:
                    kept = find_prefix_at_end(self.ac_in_buffer, terminator)
                    self._collect(len(self.ac_in_buffer) - kept)
                    return
                self._collect(start)
                self.ac_in_buffer = self.ac_in_buffer[len(terminator) :]
                self._found()

    def _collect(self, count: int) -> None:
        data, self.ac_in_buffer = self.ac_in_buffer[:count], self.ac_in_buffer[count:]
        if data:
            if getattr(self, "state_tag", None) is not None:
                self._half_read += data
            self.collect_incoming_data(data)

    def _found(self) -> None:
        self._half_read = b""
        self.found_terminator()

    def handle_close(self) -> None:
        self.close()

    # Output, in the order in which it was pushed.

    def push(self, data: bytes) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError("data argument must be byte-ish", type(data))
        size = self.ac_out_buffer_size
        self.producer_fifo.extend(data[at : at + size] for at in range(0, len(data), size))
        self.initiate_send()

    def push_with_producer(self, producer: Any) -> None:
        """`producer.more()` gives the next piece, and no bytes at its end."""
        self.producer_fifo.append(producer)
        self.initiate_send()

    def close_when_done(self) -> None:
        """Closes when everything before is written."""
        self.producer_fifo.append(None)

    def discard_buffers(self) -> None:
        self.ac_in_buffer = b""
        self._half_read = b""
        self.incoming.clear()
        self.producer_fifo.clear()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return bool(self.producer_fifo) or not self.connected

    def handle_write(self) -> None:
        self.initiate_send()

    def initiate_send(self) -> None:
        """Sends one piece, if there is one and room for it."""
        while self.producer_fifo and self.connected:
            first = self.producer_fifo.popleft()
            if first is None:
                self.handle_close()
                return
            if hasattr(first, "more"):
                piece = first.more()
                if not piece:
                    continue
                self.producer_fifo.appendleft(first)
                first = piece
            if isinstance(first, str):
                first = first.encode(self.encoding)
            if not first:
                continue
            sent = self.send(first[: self.ac_out_buffer_size])
            if sent < len(first):
                self.producer_fifo.appendleft(first[sent:])
            return

    # What is handed over.

    def unsent(self) -> bytes | None:
        if any(not isinstance(it, (bytes, bytearray, memoryview)) for it in self.producer_fifo):
            # A producer may go on without end, and `None` is a close that is due.
            return None
        return b"".join(self.producer_fifo)

    def unread(self) -> bytes:
        return self._half_read + self.ac_in_buffer

    def write_first(self, data: bytes) -> None:
        if data:
            self.producer_fifo.appendleft(data)


def find_prefix_at_end(haystack: bytes, needle: bytes) -> int:
    """How many bytes at the end of `haystack` `needle` may begin with."""
    size = min(len(needle) - 1, len(haystack))
    while size and not haystack.endswith(needle[:size]):
        size -= 1
    return size
