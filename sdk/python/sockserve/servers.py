"""The server that a handler sees: an object of CPython's class that is bound to nothing.

Its constructor is not called, because that would make a socket.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from .serving import Service


def make(service: Service, address: Any) -> Any:
    server: Any = service.server_class.__new__(service.server_class)
    server.server_address = address
    server.RequestHandlerClass = service.handler
    server.socket = None
    return server


def serve_request(server: Any, request: Any, client_address: Any) -> str | None:
    """What `BaseServer` does with a request. Returns what has gone wrong, in one line."""
    try:
        if server.verify_request(request, client_address):
            server.finish_request(request, client_address)
    except Exception as error:
        # It prints to where the host takes lines for its log.
        with contextlib.redirect_stdout(sys.stderr):
            server.handle_error(request, client_address)
        return describe(error)
    return None


def describe(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())
