"""The contract `blocking`: an instance, and one call, for each connection."""

from __future__ import annotations

from typing import Any

from componentize_py_types import Err
from wit_world import exports as wit

from . import servers, states, ticks
from .connection import Connection, Draining
from .serving import Service
from .states import Conversation, Phase

try:
    from wit_world.exports.hand_over import State
    from wit_world.imports import blocking_draining
except ImportError:
    # The world is one that does not hand connections over.
    blocking_draining = None  # type: ignore[assignment]


def exports(service: Service) -> dict[str, type]:
    accepted: dict[int, Conversation] = {}
    given_up: dict[int, Conversation] = {}
    tag = getattr(service.handler, "state_tag", None)

    class Blocking:
        def handle(self, socket: Any, input: Any, output: Any) -> None:
            number, draining = 0, None
            if blocking_draining is not None:
                number = blocking_draining.connection(socket)
                draining = blocking_draining.draining(number)
            connection = Connection(socket, input, output, number, draining)
            try:
                talk(connection)
            finally:
                connection.release()

    def talk(connection: Connection) -> None:
        before = accepted.pop(connection.number, Conversation())
        connection.unread += before.unread
        if before.output:
            connection.sendall(before.output)
        if before.phase == Phase.CLOSING:
            return
        try:
            address, peer = connection.getsockname(), connection.getpeername()
        except OSError:
            # The peer has reset the connection already.
            return
        served = resuming(service, before, given_up)
        error = servers.serve_request(servers.make(served, address), connection, peer)
        if error is not None:
            raise Err(error)

    class HandOver:
        def hand_over(self, connection: int) -> Any:
            state = given_up.pop(connection, None)
            return state and State(tag, state.encode())

        def accept(self, connection: int, state: Any) -> None:
            try:
                states.check_tag(state.tag, tag)
                accepted[connection] = Conversation.decode(state.bytes)
            except ValueError as error:
                raise Err(str(error)) from None

    found: dict[str, type] = {"Blocking": Blocking}
    if hasattr(wit, "HandOver"):
        found["HandOver"] = HandOver
    return found | ticks.exports(service)


def resuming(
    service: Service, before: Conversation, given_up: dict[int, Conversation]
) -> Service:
    """The same service, whose handler continues between `setup` and `handle`, and is saved when its
    connection is to be handed over."""
    if blocking_draining is None:
        return service

    class Handler(service.handler):  # type: ignore[misc, name-defined]
        def setup(self) -> None:
            super().setup()
            if before.saved is not states.NOTHING:
                self.resume(before.saved)

        def handle(self) -> None:
            connection: Connection = self.request
            try:
                super().handle()
            except Draining:
                save = getattr(self, "save", None)
                given_up[connection.number] = Conversation(
                    unread=bytes(connection.unread),
                    saved=save() if save else states.NOTHING,
                )

    Handler.__name__ = service.handler.__name__
    Handler.__qualname__ = service.handler.__qualname__
    Handler.__module__ = service.handler.__module__
    return Service(Handler, service.server_class, service.contract)
