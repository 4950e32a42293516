"""`tick`: the method `service_actions` of the server's class, between requests.

`serve_forever(poll_interval)` of CPython is not called here, so the class says how often by the
attribute `poll_interval`, in seconds.
"""

from __future__ import annotations

from wit_world import exports as wit

from . import servers
from .serving import POLL_INTERVAL, Service


def exports(service: Service) -> dict[str, type]:
    if not hasattr(wit, "Tick"):
        return {}

    class Tick:
        def interval(self) -> int:
            seconds = getattr(service.server_class, "poll_interval", POLL_INTERVAL)
            return int(seconds * 1_000_000_000)

        def tick(self) -> None:
            servers.make(service, None).service_actions()

    return {"Tick": Tick}
