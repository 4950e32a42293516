"""`serve`, which names the handler of a component, and what follows from its class."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import socket
import socketserver
import sys
from dataclasses import dataclass
from typing import Any, Callable

from .asyncore import dispatcher


#: How many seconds are between two calls of `service_actions`, as in CPython's `serve_forever`.
POLL_INTERVAL = 0.5

#: What does nothing, and so is not called.
DEFAULT_ACTIONS = socketserver.BaseServer.service_actions


class CannotServe(TypeError):
    """What is wrong with the arguments of `serve`, in one line."""


@dataclass(frozen=True)
class Service:
    """What a component serves."""

    handler: Any
    #: The class that CPython would be given the handler with.
    server_class: type[socketserver.BaseServer]
    contract: str

    @property
    def worlds(self) -> list[str]:
        """The worlds in `wit/` that the component is built for."""
        tagged = getattr(self.handler, "state_tag", None) is not None
        hands_over = tagged and self.contract in ("blocking", "evented")
        worlds = [f"{self.contract}-hand-over-handler" if hands_over else f"{self.contract}-handler"]
        if getattr(self.handler, "instance_tag", None) is not None:
            worlds.append("stateful-handler")
        actions = getattr(self.server_class, "service_actions", None)
        if self.contract in ("blocking", "datagram") and actions is not DEFAULT_ACTIONS:
            worlds.append("ticking-handler")
        return worlds


#: What `serve` was last called with.
declared: Service | None = None


def serve(
    handler: Any,
    server_class: type[socketserver.BaseServer] | None = None,
) -> None:
    """Makes the calling module a component that serves `handler`.

    - A subclass of `socketserver.BaseRequestHandler` has the contract `blocking`, or `datagram` if it
      is a `DatagramRequestHandler` or `server_class` is a `UDPServer`. `server_class` is used as in
      `server_class(address, handler)`, except that it binds nothing: its attributes and its
      `verify_request`, `handle_error` and `service_actions` count.
    - A subclass of `asyncore.dispatcher`, which is made for each connection with its socket, has the
      contract `evented`. So has an instance of it that listens: its `handle_accepted` is called.
    - A coroutine function of a reader and a writer has the contract `concurrent`.

    Under a plain CPython this does nothing but check its arguments. So a module with a handler can be
    imported by tests, and served by `socketserver` itself.
    """
    global declared
    declared = describe(handler, server_class)
    if importlib.util.find_spec("wit_world") is None:
        return
    # The host takes lines for its log as they come.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    module = importlib.import_module(f".{declared.contract}", __package__)
    caller = inspect.currentframe().f_back.f_globals  # type: ignore[union-attr]
    exports: Callable[[Service], dict[str, type]] = module.exports
    for name, export in exports(declared).items():
        if name in caller:
            raise NameError(f"{name}: a component exports this name; call yours otherwise")
        # componentize-py looks for what a component exports in the module of the program.
        caller[name] = export


def describe(handler: Any, server_class: type[socketserver.BaseServer] | None) -> Service:
    if inspect.iscoroutinefunction(handler):
        contract = "concurrent"
    elif isinstance(handler, dispatcher) or is_subclass(handler, dispatcher):
        contract = "evented"
    elif is_subclass(handler, socketserver.BaseRequestHandler):
        contract = "blocking"
        if server_class is None:
            datagrams = is_subclass(handler, socketserver.DatagramRequestHandler)
            server_class = socketserver.UDPServer if datagrams else socketserver.TCPServer
        if getattr(server_class, "socket_type", None) == socket.SOCK_DGRAM:
            contract = "datagram"
    else:
        raise CannotServe(
            f"serve({handler!r}): expected a subclass of socketserver.BaseRequestHandler or of "
            "sockserve.asyncore.dispatcher, or a coroutine function of a reader and a writer"
        )
    if contract in ("concurrent", "evented") and server_class is not None:
        raise CannotServe(f"serve: {contract} handlers have no class of a server")
    for method, tag in [("save", "state_tag"), ("save_instance", "instance_tag")]:
        if hasattr(handler, method) and getattr(handler, tag, None) is None:
            name = getattr(handler, "__name__", type(handler).__name__)
            raise CannotServe(f'{name} has {method}() and no {tag}: add {tag} = "{name.lower()}/1"')
    return Service(handler, server_class or socketserver.TCPServer, contract)


def is_subclass(value: Any, of: type) -> bool:
    return isinstance(value, type) and issubclass(value, of)
