"""What is handed over with a connection, and what an instance knows: the format of the bytes.

A state is in the format of postcard, and begins as the states of the guests of sockserve begin
(`SavedConversation` in guests/protocol/src/hand_over.rs):

| field | postcard | |
| --- | --- | --- |
| phase | enum without fields | 0: reads and writes; 1: the peer will send nothing more; 2: writes the output, then closes |
| output | `Vec<u8>` | output that is not written yet |
| unread | `Vec<u8>` | input that is half read |
| saved | enum, or nothing at all | what `save()` has returned: 0 and a `Vec<u8>`, or 1 and JSON as a `String` |

Without `saved` these are the bytes of the tag `echo/1`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class Phase(IntEnum):
    """What a conversation still does."""

    OPEN = 0
    ENDED = 1
    CLOSING = 2


#: Nothing was saved.
NOTHING: Any = object()


@dataclass
class Conversation:
    """All that is needed to continue with a connection."""

    phase: Phase = Phase.OPEN
    output: bytes = b""
    unread: bytes = b""
    saved: Any = field(default=NOTHING)

    def encode(self) -> bytes:
        head = bytes([self.phase]) + sized(self.output) + sized(self.unread)
        return head + encode_saved(self.saved)

    @classmethod
    def decode(cls, data: bytes) -> Conversation:
        """Raises `ValueError` if this is not such a state."""
        reader = Reader(data)
        phase = Phase(reader.number())
        return cls(phase, reader.sized(), reader.sized(), decode_saved(reader))


def encode_saved(saved: Any) -> bytes:
    if saved is NOTHING or saved is None:
        return b""
    if isinstance(saved, (bytes, bytearray)):
        return b"\0" + sized(bytes(saved))
    return b"\1" + sized(json.dumps(saved).encode())


def decode_saved(reader: Reader) -> Any:
    if reader.is_at_end:
        return NOTHING
    kind, data = reader.number(), reader.sized()
    if not reader.is_at_end or kind > 1:
        raise ValueError("more bytes than a state has")
    return data if kind == 0 else json.loads(data)


def sized(data: bytes) -> bytes:
    return number(len(data)) + data


def number(value: int) -> bytes:
    """Seven bits per byte, the lowest first. The eighth says that there are more."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """Takes one value after another."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def is_at_end(self) -> bool:
        return not self.data

    def number(self) -> int:
        value = 0
        for count, byte in enumerate(self.data):
            value |= (byte & 0x7F) << (7 * count)
            if byte < 0x80:
                self.data = self.data[count + 1 :]
                return value
        raise ValueError("the state ends too early")

    def sized(self) -> bytes:
        size = self.number()
        if size > len(self.data):
            raise ValueError("the state ends too early")
        taken, self.data = self.data[:size], self.data[size:]
        return taken


def check_tag(tag: str, expected: str | None) -> None:
    if expected is None:
        raise ValueError("this handler takes over no connections")
    if tag != expected:
        raise ValueError(f"state {ascii(tag)[1:65]}: expected {expected}")
