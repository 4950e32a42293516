"""Addresses, as WASI has them and as Python has them."""

from __future__ import annotations

import ipaddress
from typing import Any

#: `(host, port)`, or `(host, port, flow_info, scope_id)` over IPv6.
Address = tuple[Any, ...]


def from_wasi(address: Any) -> Address:
    """From an `ip-socket-address` of WASI 0.2 or 0.3."""
    ip = address.value
    if len(ip.address) == 4:
        return ".".join(map(str, ip.address)), ip.port
    packed = b"".join(part.to_bytes(2, "big") for part in ip.address)
    return str(ipaddress.IPv6Address(packed)), ip.port, ip.flow_info, ip.scope_id


def to_wasi(network: Any, address: Address) -> Any:
    """To an `ip-socket-address`, whose classes are those of the module `network`."""
    host, port, *rest = address
    packed = ipaddress.ip_address(host).packed
    if len(packed) == 4:
        return network.IpSocketAddress_Ipv4(network.Ipv4SocketAddress(port, tuple(packed)))
    parts = tuple(int.from_bytes(packed[at : at + 2], "big") for at in range(0, 16, 2))
    flow_info, scope_id = (*rest, 0, 0)[:2]
    return network.IpSocketAddress_Ipv6(
        network.Ipv6SocketAddress(port, flow_info, parts, scope_id)
    )
