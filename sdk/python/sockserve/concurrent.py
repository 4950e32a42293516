"""The contract `concurrent`: a coroutine per connection, and one instance for all of them.

The event loop is that of componentize-py. It has no timers, and a coroutine of one connection cannot
wake that of another.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import wit_world
from componentize_py_types import Err
from wit_world import exports as wit

from . import addresses, servers
from .serving import Service

CHUNK = 65536


def exports(service: Service) -> dict[str, type]:
    class Concurrent(wit.Concurrent):
        async def handle(self, socket: Any) -> None:
            with socket:
                reader, writer = Reader(socket), Writer(socket)
                try:
                    await service.handler(reader, writer)
                    await writer.drain()
                except Exception as error:
                    # Anything that is raised from here ends the instance.
                    if not isinstance(error, ConnectionError):
                        traceback.print_exc()
                    raise Err(servers.describe(error)) from None
                finally:
                    writer.release()
                    reader.release()

    return {"Concurrent": Concurrent}


class Reader:
    """`asyncio.StreamReader`."""

    def __init__(self, socket: Any) -> None:
        self._stream, self._result = socket.receive()
        self._unread = bytearray()
        self._ended = False

    def at_eof(self) -> bool:
        return self._ended and not self._unread

    async def read(self, n: int = -1) -> bytes:
        """Up to `n` bytes; none at the end of file. Everything until then if `n` is negative."""
        if n < 0:
            while await self._fill():
                pass
            return self._take(len(self._unread))
        if n and not self._unread:
            await self._fill(n)
        return self._take(n)

    async def readline(self) -> bytes:
        """With its line ending, unless the end of file comes before."""
        try:
            return await self.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        searched = 0
        while (start := self._unread.find(separator, searched)) < 0:
            searched = max(0, len(self._unread) - len(separator) + 1)
            if not await self._fill():
                raise asyncio.IncompleteReadError(self._take(len(self._unread)), None)
        return self._take(start + len(separator))

    async def readexactly(self, n: int) -> bytes:
        while len(self._unread) < n:
            if not await self._fill():
                raise asyncio.IncompleteReadError(self._take(len(self._unread)), n)
        return self._take(n)

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def release(self) -> None:
        self._stream.__exit__(None, None, None)
        if self._result is not None:
            self._result.__exit__(None, None, None)

    async def _fill(self, size: int = CHUNK) -> bool:
        if self._ended:
            return False
        data = await self._stream.read(min(size, CHUNK))
        self._unread += data
        if not data and self._stream.writer_dropped:
            self._ended = True
            result, self._result = self._result, None
            if isinstance(await result.read(), Err):
                raise ConnectionResetError("Connection reset by peer")
        return bool(data)

    def _take(self, size: int) -> bytes:
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data


class Writer:
    """`asyncio.StreamWriter`."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._stream, reader = wit_world.byte_stream()
        self._result = socket.send(reader)
        self._unsent = bytearray()
        self._closing = False

    def write(self, data: Any) -> None:
        """Keeps the data until `drain`, or until the handler has returned."""
        if self._closing:
            raise RuntimeError("write after close() or write_eof()")
        self._unsent += data

    def writelines(self, data: Any) -> None:
        self.write(b"".join(data))

    async def drain(self) -> None:
        data = bytes(self._unsent)
        self._unsent.clear()
        if data and await self._stream.write_all(data) < len(data):
            raise ConnectionResetError("Connection lost")
        if self._closing:
            self._stream.__exit__(None, None, None)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """FIN goes out with `drain`, or when the handler has returned."""
        self._closing = True

    def close(self) -> None:
        self._closing = True

    def is_closing(self) -> bool:
        return self._closing

    async def wait_closed(self) -> None:
        await self.drain()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peername` and `sockname`. An empty string over a Unix socket."""
        ask = {
            "peername": self._socket.get_remote_address,
            "sockname": self._socket.get_local_address,
        }.get(name)
        if ask is None:
            return default
        try:
            return addresses.from_wasi(ask())
        except Err:
            return ""

    def release(self) -> None:
        self._stream.__exit__(None, None, None)
        self._result.__exit__(None, None, None)
