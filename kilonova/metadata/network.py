"""``network_data.json``: links, networks and services of a guest's cards."""

from __future__ import annotations

import ipaddress
from typing import Any

from kilonova.domain.guest import FixedIp, Nic


def network_data(nics: tuple[Nic, ...]) -> dict[str, Any]:
    """The document for these cards, in their order."""
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    services: list[dict[str, str]] = []
    for nic in nics:
        link_id = nic.device or f"tap{nic.port_id[:11]}"
        links.append(
            {
                "id": link_id,
                "vif_id": nic.port_id,
                "type": "phy" if nic.vif_type == "user" else nic.vif_type,
                "mtu": nic.mtu or None,
                "ethernet_mac_address": nic.mac,
            }
        )
        for ip in nic.ips:
            networks.append(_network(len(networks), link_id, nic, ip))
            for address in ip.dns:
                service = {"type": "dns", "address": address}
                if service not in services:
                    services.append(service)
    return {"links": links, "networks": networks, "services": services}


def _network(index: int, link_id: str, nic: Nic, ip: FixedIp) -> dict[str, Any]:
    doc: dict[str, Any] = {
        "id": f"network{index}",
        "type": _kind(ip),
        "link": link_id,
        "network_id": nic.network_id,
    }
    if doc["type"] == "ipv4_dhcp":
        return doc
    net = ipaddress.ip_network(ip.cidr, strict=False)
    doc |= {
        "ip_address": ip.address,
        "netmask": str(net.netmask),
        "routes": _routes(ip),
        "services": [{"type": "dns", "address": address} for address in ip.dns],
    }
    return doc


def _kind(ip: FixedIp) -> str:
    if ip.version == 4:
        return "ipv4_dhcp" if ip.dhcp else "ipv4"
    return f"ipv6_{ip.ipv6_mode}" if ip.ipv6_mode else "ipv6"


def _routes(ip: FixedIp) -> list[dict[str, str]]:
    routes = list(ip.routes)
    if ip.gateway:
        routes.insert(0, ("0.0.0.0/0" if ip.version == 4 else "::/0", ip.gateway))
    made = []
    for destination, gateway in routes:
        net = ipaddress.ip_network(destination, strict=False)
        made.append(
            {
                "network": str(net.network_address),
                "netmask": str(net.netmask),
                "gateway": gateway,
            }
        )
    return made
