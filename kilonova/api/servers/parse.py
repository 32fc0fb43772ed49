"""From a valid body of ``POST /servers`` at any version to one `ServerRequest`; pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from kilonova.api.schemas import truth
from kilonova.api.servers.devices import Asked, Brought, asked, brought, settle
from kilonova.base.errors import BadRequest
from kilonova.domain.disks import BlankDisk, RootDisk, WantedVolume
from kilonova.domain.guest import InjectedFile


class WantedNetwork(msgspec.Struct, frozen=True):
    """One item of ``networks``."""

    network_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


class ServerRequest(msgspec.Struct, frozen=True):
    """What was asked for; all spellings of all versions end here.

    ``networks`` is a list, ``auto``, ``none``, or None when nothing was said. ``zone``, ``host``
    and ``node`` are the parts of ``availability_zone``; ``wanted_host`` and ``wanted_node`` the
    keys of 2.74. ``image_id`` is empty for a server that starts from a volume. ``root``, ``blanks``
    and ``volumes`` are filled by `with_image`.
    """

    name: str
    flavor_id: str
    image_id: str
    least: int
    most: int
    by_reservation: bool = False
    admin_pass: str | None = None
    metadata: dict[str, str] = {}
    networks: tuple[WantedNetwork, ...] | str | None = None
    auto_disk_config: bool | None = None
    access_ip_v4: str | None = None
    access_ip_v6: str | None = None
    files: tuple[InjectedFile, ...] = ()
    zone: str | None = None
    host: str | None = None
    node: str | None = None
    wanted_host: str | None = None
    wanted_node: str | None = None
    devices: Asked = Asked()
    blanks: tuple[BlankDisk, ...] = ()
    root: RootDisk = RootDisk()
    volumes: tuple[WantedVolume, ...] = ()

    @property
    def boot_image(self) -> str:
        """The image whose properties count: the one named, or the source of the root volume."""
        if self.image_id:
            return self.image_id
        roots = (i for i in self.devices.items if i.boot_index == 0 and i.source == "image")
        return next((item.key or "" for item in roots), "")

    config_drive: bool = False
    key_name: str | None = None
    security_groups: tuple[str, ...] | None = None
    user_data: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    trusted_certs: tuple[str, ...] | None = None
    hostname: str | None = None
    hints: dict[str, Any] = {}


def parse(body: dict[str, Any], version: int) -> ServerRequest:
    """BadRequest for what no schema can say."""
    server = body["server"]
    name = server["name"].strip()
    least, most = _counts(server)
    hints = body.get("os:scheduler_hints") or body.get("OS-SCH-HNT:scheduler_hints") or {}
    zone, host, node = _zone(server.get("availability_zone"))
    wanted_host, wanted_node = server.get("host"), server.get("hypervisor_hostname")
    if (wanted_host or wanted_node) and host:
        raise BadRequest(
            "A host can be asked for with availability_zone or with host and "
            "hypervisor_hostname, not with both."
        )
    image_id = str(server.get("imageRef", ""))
    devices = asked(server, image_id)
    networks = _networks(server.get("networks"))
    hostname = server.get("hostname")
    if most > 1:
        _single_only(networks, hostname)
    groups = server.get("security_groups")
    disk_config = server.get("OS-DCF:diskConfig")
    description = server.get("description") if version >= 19 else name
    return ServerRequest(
        name=name,
        flavor_id=str(server["flavorRef"]).rstrip("/").rsplit("/", 1)[-1],
        image_id=image_id,
        least=least,
        most=most,
        by_reservation=truth(server.get("return_reservation_id", False)),
        admin_pass=server.get("adminPass"),
        metadata=server.get("metadata") or {},
        networks=networks,
        auto_disk_config=None if disk_config is None else disk_config == "AUTO",
        access_ip_v4=access_address(server.get("accessIPv4")),
        access_ip_v6=access_address(server.get("accessIPv6")),
        files=tuple(InjectedFile(f["path"], f["contents"]) for f in server.get("personality", ())),
        zone=zone,
        host=host,
        node=node,
        wanted_host=wanted_host,
        wanted_node=wanted_node,
        devices=devices,
        config_drive=truth(server.get("config_drive", False)),
        key_name=server.get("key_name"),
        security_groups=_groups(groups),
        user_data=server.get("user_data"),
        description=description,
        tags=tuple(dict.fromkeys(server.get("tags", ()))),
        trusted_certs=_certs(server),
        hostname=hostname,
        hints=hints,
    )


def with_image(request: ServerRequest, properties: Mapping[str, str]) -> ServerRequest:
    """The request with its disks, to which its boot image's properties may add; BadRequest."""
    found = settle(
        request.devices,
        brought(properties) if properties else Brought(),
        request.image_id,
        most=request.most,
    )
    return msgspec.structs.replace(
        request, root=found.root, blanks=found.blanks, volumes=found.volumes
    )


def access_address(text: str | None) -> str | None:
    """An address that the schema let pass, in its one canonical spelling; None for an empty one."""
    return str(ipaddress.ip_address(text)) if text else None


def _counts(server: dict[str, Any]) -> tuple[int, int]:
    least = int(server.get("min_count", 1))
    most = int(server.get("max_count", least))
    if least > most:
        raise BadRequest("min_count must be <= max_count")
    return least, most


def _zone(text: str | None) -> tuple[str | None, str | None, str | None]:
    if not text:
        return None, None, None
    parts = text.split(":")
    if len(parts) > 3:
        raise BadRequest(
            "Invalid availability_zone: it has the form zone, zone:host or zone:host:node"
        )
    zone, host, node = (part or None for part in (*parts, *[""] * (3 - len(parts))))
    return zone, host, node


def _certs(server: dict[str, Any]) -> tuple[str, ...] | None:
    certs = server.get("trusted_image_certificates")
    return tuple(certs) if certs else None


def _groups(groups: list[dict[str, str]] | None) -> tuple[str, ...] | None:
    if not groups:
        return None
    return tuple(dict.fromkeys(group["name"] for group in groups if group.get("name")))


def _networks(given: Any) -> tuple[WantedNetwork, ...] | str | None:
    if given is None or isinstance(given, str):
        return given
    wanted = []
    for item in given:
        port, network = item.get("port"), item.get("uuid")
        if port is None and network is None:
            raise BadRequest("Bad networks format: missing network uuid or port.")
        if port is not None and item.get("fixed_ip"):
            raise BadRequest(
                f"Specified Fixed IP '{item['fixed_ip']}' cannot be used with port '{port}': the "
                "two cannot be specified together."
            )
        if port is None and not re.fullmatch(r"[0-9a-fA-F-]{32,36}", network):
            raise BadRequest(
                f"Bad networks format: network uuid is not in proper format ({network})"
            )
        wanted.append(
            WantedNetwork(
                None if port is not None else network, port, item.get("fixed_ip"), item.get("tag")
            )
        )
    ports = [item.port_id for item in wanted if item.port_id]
    if len(set(ports)) != len(ports):
        raise BadRequest("Bad networks format: a port is named more than once.")
    return tuple(wanted) or None


def _single_only(networks: tuple[WantedNetwork, ...] | str | None, hostname: str | None) -> None:
    if hostname:
        raise BadRequest("A hostname can be given to one server only: max_count must be 1.")
    if isinstance(networks, tuple):
        for item in networks:
            if item.port_id:
                raise BadRequest(
                    "Unable to launch multiple instances with a single configured port ID. Launch "
                    "them one by one with different ports."
                )
            if item.fixed_ip:
                raise BadRequest(
                    "Invalid fixed IP: max_count cannot be greater than 1 if one is specified."
                )


def hostname_of(name: str, server_id: str) -> str:
    """The host name a guest gets when none was asked for: the server's name made fit (RFC 1123)."""
    text = name.encode("latin-1", "ignore").decode("latin-1")
    text = re.sub(r"[ _.]", "-", text)
    text = re.sub(r"[^\w.-]+", "", text, flags=re.ASCII).lower().strip(".-")
    return text[:63].rstrip("-") or f"server-{server_id}"
