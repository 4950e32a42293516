"""The contract `evented`: one instance for all connections, and a call per batch of events.

It calls the dispatchers of `asyncore`, in whose map they are.
"""

from __future__ import annotations

import time
from typing import Any, Callable

from componentize_py_types import Err
from wit_world import exports as wit
from wit_world.exports import evented as events

from . import instances, states
from .asyncore import ExitNow, dispatcher, socket_map
from .connection import Connection
from .serving import Service
from .states import Conversation, Phase

try:
    from wit_world.exports.hand_over import State
except ImportError:
    # The world is one that does not hand connections over.
    pass

#: For how long a turn reads, in seconds. The host ends an instance, with all its connections, whose
#: turn takes longer than the deadline, which is 1 s by default; and up to 1024 peers may send at once.
LONG = 0.05

GONE = events.Readiness.HANG_UP | events.Readiness.ERROR


def exports(service: Service) -> dict[str, type]:
    room = Room(service.handler)
    tag = getattr(service.handler, "state_tag", None)

    class Evented:
        def turn(self, events: list[Any]) -> list[Any]:
            return room.turn(events)

    class HandOver:
        def hand_over(self, connection: int) -> Any:
            state = room.give_up(connection)
            return state and State(tag, state.encode())

        def accept(self, connection: int, state: Any) -> None:
            try:
                states.check_tag(state.tag, tag)
                room.accepted[connection] = Conversation.decode(state.bytes)
            except ValueError as error:
                raise Err(str(error)) from None

    found: dict[str, type] = {"Evented": Evented}
    if hasattr(wit, "HandOver"):
        found["HandOver"] = HandOver
    return found | instances.exports(service)


class Room:
    """All connections of the instance."""

    def __init__(self, handler: Any) -> None:
        self.handler = handler
        self.connections: dict[int, Connection] = {}
        #: The interest that the host was last told.
        self.interests: dict[int, Any] = {}
        #: What is handed over with connections that have no event yet.
        self.accepted: dict[int, Conversation] = {}
        self.failures: dict[int, str] = {}
        #: The connections that turns have put off, the longest first.
        self.put_off: dict[int, None] = {}

    def turn(self, batch: list[Any]) -> list[Any]:
        begun = time.monotonic()
        for event in batch:
            if isinstance(event, events.Event_Opened):
                self.open(event.value)
        for ready in self.in_order(batch):
            # Of an error or a hang-up without input the host may tell only once.
            is_told_again = ready.readiness & events.Readiness.READABLE
            if is_told_again and time.monotonic() - begun >= LONG:
                if ready.connection in self.connections:
                    self.put_off[ready.connection] = None
            else:
                self.ready(ready.connection, ready.readiness)
        return list(self.changes())

    def in_order(self, batch: list[Any]) -> list[Any]:
        """What is ready: first what was put off, which is then forgotten."""
        all_ready = [event.value for event in batch if isinstance(event, events.Event_Ready)]
        places = {number: place for place, number in enumerate(self.put_off)}
        for ready in all_ready:
            self.put_off.pop(ready.connection, None)
        return sorted(all_ready, key=lambda ready: places.get(ready.connection, len(places)))

    def open(self, opened: Any) -> None:
        number = opened.connection
        connection = Connection(opened.socket, opened.input, opened.output, number)
        connection.setblocking(False)
        self.connections[number] = connection
        self.interests[number] = events.Interest.READABLE
        try:
            channel = self.begin(connection)
        except ExitNow:
            raise
        except Exception as error:
            self.failures[number] = str(error)
            close(number, connection)
            return
        if channel is not None and connection.unread:
            self.guard(channel, channel.handle_read_event)

    def begin(self, connection: Connection) -> dispatcher | None:
        before = self.accepted.pop(connection.number, Conversation())
        connection.unread += before.unread
        if isinstance(self.handler, dispatcher):
            self.handler._incoming.append((connection, connection.getpeername()))
            self.handler.handle_accept()
        else:
            self.handler(connection)
        channel = socket_map.get(connection.number)
        if channel is None:
            # No dispatcher wants it.
            connection.close()
            return None
        channel.write_first(before.output)
        if before.phase == Phase.CLOSING:
            channel.close_when_done()  # type: ignore[attr-defined]
        if before.saved is not states.NOTHING:
            channel.resume(before.saved)  # type: ignore[attr-defined]
        return channel

    def ready(self, number: int, readiness: Any) -> None:
        channel = socket_map.get(number)
        if channel is None:
            return
        if channel.readable() and readiness & (events.Readiness.READABLE | GONE):
            # Also where the connection is lost: what came before can be read, and then a read says so.
            self.guard(channel, channel.handle_read_event)
        elif readiness & GONE:
            self.guard(channel, channel.handle_close)
        if readiness & events.Readiness.WRITABLE and number in socket_map and channel.writable():
            self.guard(channel, channel.handle_write_event)

    def guard(self, channel: dispatcher, method: Callable[[], None]) -> None:
        """As `asyncore` does: an exception is the channel's own."""
        number = channel._connection.number
        try:
            method()
        except ExitNow:
            raise
        except Exception:
            try:
                channel.handle_error()
            except Exception:
                # One that fails too must not cost the other connections.
                dispatcher.handle_error(channel)
                channel.close()
            if channel.failure is not None:
                self.failures[number] = channel.failure

    def changes(self) -> Any:
        """What the host is to do, beside what it does already."""
        for number, connection in list(self.connections.items()):
            channel = socket_map.get(number)
            if channel is None or not connection.is_open:
                yield self.end(number)
                continue
            interest = events.Interest(0)
            if channel.readable():
                interest |= events.Interest.READABLE
            if channel.writable():
                interest |= events.Interest.WRITABLE
            if interest != self.interests[number]:
                self.interests[number] = interest
                yield events.Change_Interest(events.InterestChange(number, interest))

    def end(self, number: int) -> Any:
        self.forget(number)
        failure = self.failures.pop(number, None)
        if failure is None:
            return events.Change_Close(number)
        return events.Change_Fail(events.Failure(number, failure))

    def forget(self, number: int) -> None:
        connection = self.connections.pop(number)
        self.put_off.pop(number, None)
        del self.interests[number]
        socket_map.pop(number, None)
        connection.release()

    def give_up(self, number: int) -> Conversation | None:
        channel = socket_map.get(number)
        if channel is None or getattr(channel, "state_tag", None) is None:
            return None
        output = channel.unsent()
        if output is None:
            return None
        save: Callable[[], Any] | None = getattr(channel, "save", None)
        saved = save() if save else states.NOTHING
        unread = channel.unread() + bytes(self.connections[number].unread)
        self.forget(number)
        return Conversation(output=output, unread=unread, saved=saved)


def close(number: int, connection: Connection) -> None:
    socket_map.pop(number, None)
    connection.close()
