"""What an instance knows beyond its connections: `instance-state`, beside `evented` and `datagram`.

A handler's class has `instance_tag`, and the class methods `save_instance`, which returns bytes or
what JSON can express, or `None`, and `restore_instance`, which gets that.
"""

from __future__ import annotations

from typing import Any

from componentize_py_types import Err
from wit_world import exports as wit

from . import servers, states
from .serving import Service

try:
    from wit_world.exports.instance_state import State
except ImportError:
    # The world is one without it.
    pass


def exports(service: Service) -> dict[str, type]:
    if not hasattr(wit, "InstanceState"):
        return {}
    handler = service.handler

    class InstanceState:
        def save(self) -> Any:
            saved = handler.save_instance()
            return None if saved is None else State(handler.instance_tag, states.encode_saved(saved))

        def restore(self, state: Any) -> None:
            try:
                states.check_tag(state.tag, handler.instance_tag)
                handler.restore_instance(states.decode_saved(states.Reader(state.bytes)))
            except Exception as error:
                raise Err(servers.describe(error)) from None

    return {"InstanceState": InstanceState}
