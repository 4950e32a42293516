"""The contract `datagram`: a call per batch of datagrams, and a request for each of them."""

from __future__ import annotations

import errno
import socket as names
from typing import Any

from componentize_py_types import Err
from wit_world.exports import datagram as wit
from wit_world.imports import network

from . import addresses, instances, servers, ticks
from .serving import Service


def exports(service: Service) -> dict[str, type]:
    class Datagram:
        def max_data_bytes(self) -> int:
            return service.server_class.max_packet_size  # type: ignore[attr-defined]

        def receive(self, batch: list[Any]) -> list[Any]:
            answers: list[Any] = []
            errors = [error for it in batch if (error := serve(it, answers)) is not None]
            # With an error there are no answers.
            if errors and not answers:
                raise Err(errors[0])
            return answers

    def serve(datagram: Any, answers: list[Any]) -> str | None:
        socket = Socket(datagram.local, answers)
        server = servers.make(service, socket.getsockname())
        server.socket = socket
        return servers.serve_request(server, (datagram.data, socket), from_wasi(datagram.peer))

    return {"Datagram": Datagram} | instances.exports(service) | ticks.exports(service)


class Socket:
    """The service's own socket, as a handler has it: for sending."""

    type = names.SOCK_DGRAM
    proto = names.IPPROTO_UDP

    def __init__(self, local: Any, answers: list[Any]) -> None:
        self._local = local
        self._answers = answers

    @property
    def family(self) -> int:
        """That of a Unix socket is 1, for which WASI has no name."""
        if isinstance(self._local, wit.Address_Unix):
            return 1
        is_ipv4 = isinstance(self._local.value, network.IpSocketAddress_Ipv4)
        return names.AF_INET if is_ipv4 else names.AF_INET6

    def sendto(self, data: Any, *arguments: Any) -> int:
        """`sendto(data, address)` or `sendto(data, flags, address)`. The host decides whether it is
        sent, and does not say."""
        peer = to_wasi(arguments[-1])
        self._answers.append(wit.Datagram(peer, self._local, bytes(data)))
        return len(data)

    def getsockname(self) -> Any:
        return from_wasi(self._local)

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass

    def recvfrom(self, bufsize: int, flags: int = 0) -> Any:
        raise OSError(errno.EOPNOTSUPP, "a handler has one datagram: self.request[0]")

    def setsockopt(self, *arguments: Any) -> None:
        raise OSError(errno.ENOPROTOOPT, "the socket belongs to the host")


def from_wasi(address: Any) -> Any:
    """As CPython has it: a tuple, or the path of a Unix socket, or bytes if its name is abstract.
    `None` if it has no name."""
    if isinstance(address, wit.Address_Ip):
        return addresses.from_wasi(address.value)
    name = address.value
    if not name:
        return None
    return name if name.startswith(b"\0") else name.decode(errors="surrogateescape")


def to_wasi(address: Any) -> Any:
    if isinstance(address, str):
        address = address.encode(errors="surrogateescape")
    if isinstance(address, bytes):
        return wit.Address_Unix(address)
    if not isinstance(address, tuple):
        raise TypeError("sendto: expected an address")
    return wit.Address_Ip(addresses.to_wasi(network, address))
