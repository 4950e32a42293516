"""Serves handler classes as WebAssembly components.

| module | |
| --- | --- |
| `serving` | `serve`, which names the handler of a component, and what follows from its class |
| `build` | `python -m sockserve build`: from a Python file to a component |
| `asyncore`, `asynchat` | handlers of events, with the names of the modules that CPython 3.12 took out |
| `testing` | a server for a test |
| `blocking`, `datagram`, `evented`, `concurrent` | what a component exports, one module per contract |
| `connection` | the socket that a handler has |
| `instances` | what an instance knows beyond its connections |
| `files`, `addresses`, `states`, `servers` | what these share |

Handlers of connections and datagrams are classes of CPython's own `socketserver`.
"""

from .serving import serve

__all__ = ["serve"]
