"""Everything a `ServerRequest` names is looked up at once; what is not there is 400."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Mapping
from typing import Any

import msgspec

from kilonova.api.servers.parse import ServerRequest, WantedNetwork, with_image
from kilonova.api.servers.volumes import Looked, boot_image, look
from kilonova.base.errors import BadRequest, Conflict, Fault, Forbidden, NotFound
from kilonova.config.pci import Pci
from kilonova.context import Context
from kilonova.db.database import Tx
from kilonova.domain import image_properties
from kilonova.domain.fit import agree, pci
from kilonova.domain.fit.wanted import topology
from kilonova.domain.guest import FlavorSpec
from kilonova.domain.resources import Group, KeyPair, Service
from kilonova.domain.server import WantedNic
from kilonova.interfaces.image import Image
from kilonova.interfaces.network import Port
from kilonova.store import aggregates, flavors, groups, keypairs, services

GIB = 1024**3
EXTERNAL = "network:attach_external_network"


class Resolved(msgspec.Struct, frozen=True):
    """What the request's names stand for. ``request``: with the disks its image adds.

    ``image`` is the one named; a server that starts from a volume may have one too.
    """

    request: ServerRequest

    flavor: FlavorSpec
    image: Image | None
    nics: tuple[WantedNic, ...]
    security_groups: tuple[str, ...] | None
    key: KeyPair | None
    group: Group | None
    volumes: Looked = Looked()
    group_names: tuple[str, ...] = ("default",)
    """How the security groups are called, whatever the request called them by."""


class _Rows(msgspec.Struct, frozen=True):
    flavor: FlavorSpec | None
    key: KeyPair | None
    group: Group | None
    zones: dict[str, str]


async def resolve(call: Context, request: ServerRequest) -> Resolved:
    """BadRequest, Forbidden, or Conflict (a port in use, an ambiguous network)."""
    async with _first_error(), asyncio.TaskGroup() as work:
        rows_task = work.create_task(_rows(call, request))
        image_task = work.create_task(_image(call, request.image_id))
        disks_task = work.create_task(_disks(call, request, image_task))
        nics_task = work.create_task(_nics(call, request))
        groups_task = work.create_task(_security_groups(call, request))
        hosts_task = work.create_task(_check_hosts(call, request))
    rows, image = rows_task.result(), image_task.result()
    request, volumes = disks_task.result()
    if rows.flavor is None or rows.flavor.disabled:
        raise BadRequest("Invalid flavorRef provided.")
    if request.key_name is not None and rows.key is None:
        raise BadRequest("Invalid key_name provided.")
    if "group" in request.hints and rows.group is None:
        raise BadRequest(f"Instance group {request.hints['group']} could not be found.")
    start = volumes.start
    if image is not None:
        _check_image(call, rows.flavor, image, local=start is None)
    elif start is not None and start.min_ram > rows.flavor.memory_mb:
        raise BadRequest("Flavor's memory is too small for requested image.")
    properties = image.properties if image else start.properties if start else {}
    check_shape(rows.flavor, properties, call.app.settings.pci)
    _check_zone(call, request, rows.zones, hosts_task.result())
    return Resolved(
        request,
        rows.flavor,
        image,
        nics_task.result(),
        tuple(groups_task.result().values()) or None,
        rows.key,
        rows.group,
        volumes,
        tuple(groups_task.result()) or ("default",),
    )


class _first_error:
    """Raise the first Fault of a task group as itself."""

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BaseExceptionGroup):
            faults = [inner for inner in error.exceptions if isinstance(inner, Fault)]
            if faults:
                raise faults[0] from None


async def _rows(call: Context, request: ServerRequest) -> _Rows:
    def read(tx: Tx) -> _Rows:
        caller = call.caller
        return _Rows(
            flavors.get(
                tx,
                request.flavor_id,
                project_id=caller.project_id,
                everybody=call.allows("context_is_admin", {}),
            ),
            keypairs.get(tx, caller.user_id, request.key_name) if request.key_name else None,
            groups.get(tx, request.hints["group"], project_id=caller.project_id)
            if "group" in request.hints
            else None,
            aggregates.zones(tx) if request.zone else {},
        )

    return await call.app.db.read(read)


async def _disks(
    call: Context, request: ServerRequest, naming: Awaitable[Image | None]
) -> tuple[ServerRequest, Looked]:
    image = await naming
    if image is None and request.boot_image:
        image = await boot_image(call, request.boot_image)
    whole = with_image(request, image.properties if image is not None else {})
    return whole, await look(call, whole, image)


async def _image(call: Context, image_id: str) -> Image | None:
    if not image_id:
        return None
    try:
        image = await call.app.images.show(image_id, token=call.caller.token)
    except (NotFound, Forbidden):
        raise BadRequest("Can not find requested image") from None
    if image.status != "active":
        raise BadRequest(f"Image {image_id} is not active.")
    return image


def check_shape(flavor: FlavorSpec, properties: Mapping[str, str], options: Pci) -> None:
    """BadRequest for words of flavor and image about NUMA nodes, CPUs, pages and devices that are
    wrong or contradict each other."""
    agree.check(flavor.extra_specs, properties)
    topology(flavor, properties)
    known = pci.aliases(options.alias) if pci.ASKED in flavor.extra_specs else {}
    pci.requests(flavor.extra_specs, properties, known)


def _check_image(call: Context, flavor: FlavorSpec, image: Image, *, local: bool) -> None:
    image_properties.validate(image.properties)
    if image.min_ram > flavor.memory_mb:
        raise BadRequest("Flavor's memory is too small for requested image.")
    if not local:
        return
    if flavor.root_gb == 0:
        call.enforce("os_compute_api:servers:create:zero_disk_flavor")
        return
    needed = max(image.min_disk, math.ceil((image.virtual_size or image.size) / GIB))
    if needed > flavor.root_gb:
        raise BadRequest(
            f"Flavor's disk is too small for requested image. Flavor disk is "
            f"{flavor.root_gb * GIB} bytes, image needs {needed * GIB} bytes."
        )


async def _check_hosts(call: Context, request: ServerRequest) -> dict[str, Service]:
    """The computes of the hosts that are named."""
    named = [host for host in (request.host, request.wanted_host) if host]
    if request.host or request.node:
        call.enforce("os_compute_api:servers:create:forced_host")
    if request.wanted_host or request.wanted_node:
        call.enforce("compute:servers:create:requested_destination")
    if not named and not request.zone:
        return {}
    found = await call.app.cells.gather(services.page, binary="nova-compute")
    known = {service.host: service for service in found.rows()}
    for host in named:
        if host not in known:
            raise BadRequest(f"Compute host {host} could not be found.")
    return known


def _check_zone(
    call: Context, request: ServerRequest, zones: dict[str, str], hosts: dict[str, Service]
) -> None:
    if request.zone is None:
        return
    default = call.app.settings.default.default_availability_zone
    known = {zones.get(host, default) for host, service in hosts.items() if not service.disabled}
    if request.zone not in known | {default}:
        raise BadRequest("The requested availability zone is not available")


async def _nics(call: Context, request: ServerRequest) -> tuple[WantedNic, ...]:
    wanted = request.networks
    caller, net = call.caller, call.app.networks
    project = caller.project_id or ""
    if wanted == "none":
        return ()
    if wanted is None or wanted == "auto":
        admin = call.allows("context_is_admin", {})
        networks = await net.networks(token=caller.token, project_id=project, sees_all=admin)
        networks = [item for item in networks if not item.external]
        auto = wanted == "auto"
        if auto:
            networks = [item for item in networks if item.subnets]
        if len(networks) > 1:
            raise Conflict(
                "Multiple possible networks found, use a Network ID to be more specific."
            )
        if auto and not networks:
            await _asked(net.auto_network(token=caller.token, project_id=project, dry_run=True))
            return (WantedNic("0", auto=True),)
        return tuple(WantedNic("0", item.id, auto=auto) for item in networks if item.subnets)
    assert isinstance(wanted, tuple)
    return await _named(call, wanted, project)


async def _named(
    call: Context, wanted: tuple[WantedNetwork, ...], project: str
) -> tuple[WantedNic, ...]:
    net = call.app.networks
    port_ids = tuple(item.port_id for item in wanted if item.port_id)
    network_ids = tuple(dict.fromkeys(item.network_id for item in wanted if item.network_id))
    ports = {p.id: p for p in await _asked(net.ports(ids=port_ids))} if port_ids else {}
    found = (
        await _asked(net.networks(token=call.caller.token, project_id=project, ids=network_ids))
        if network_ids
        else []
    )
    networks = {item.id: item for item in found}
    for port_id in port_ids:
        port = ports.get(port_id)
        if port is None or (port.project_id != project and not call.allows("context_is_admin", {})):
            raise BadRequest(f"Port {port_id} could not be found.")
        if port.device_id:
            raise Conflict(f"Port {port_id} is still in use.")
        if port.resource_request and call.version < 72:
            raise BadRequest(
                f"Port {port_id} has a resource request; servers with such ports can be created "
                "from microversion 2.72 on."
            )
        check_addressed(port)
    for network_id in network_ids:
        network = networks.get(network_id)
        if network is None:
            raise BadRequest(f"Network {network_id} could not be found.")
        if network.external and not network.shared and not call.allows(EXTERNAL):
            raise Forbidden(
                f"It is not allowed to create an interface on external network {network_id}"
            )
        if not network.subnets:
            raise BadRequest(
                f"Network {network_id} requires a subnet in order to boot instances on."
            )
    for item in wanted:
        if item.network_id and item.fixed_ip:
            await check_address(call, item.network_id, item.fixed_ip)
    return tuple(
        WantedNic(str(place), item.network_id, item.port_id, item.fixed_ip, item.tag)
        for place, item in enumerate(wanted)
    )


def check_addressed(port: Port) -> None:
    """BadRequest when the port ought to have an address and has none."""
    if not port.ips and port.ip_allocation not in ("none", "deferred"):
        raise BadRequest(f"Port {port.id} requires a FixedIP in order to be used.")


async def check_address(call: Context, network_id: str, address: str) -> None:
    """BadRequest when a port of the network has the address already."""
    for port in await call.app.networks.ports(network_id=network_id, address=address):
        raise BadRequest(
            f"Fixed IP address {address} is already in use on instance {port.device_id}."
        )


async def _asked(answer: Awaitable[Any]) -> Any:
    """What the network service does not have is wrong in the body: 400."""
    try:
        return await answer
    except NotFound as error:
        raise BadRequest(error.message) from None


async def _security_groups(call: Context, request: ServerRequest) -> dict[str, str]:
    """Name → id; nothing for the network service's default alone."""
    names = request.security_groups
    if not names or set(names) == {"default"}:
        return {}
    found = await call.app.networks.security_groups(
        token=call.caller.token, project_id=call.caller.project_id or "", names=names
    )
    for name in names:
        if name not in found:
            raise BadRequest(f"Security group {name} not found.")
    if all(found[name] != name for name in names):
        return {name: found[name] for name in names}
    rows = await call.app.documents.find(
        "security-groups", token=call.caller.token, id=tuple(found.values())
    )
    called = {row["id"]: str(row["name"]) for row in rows}
    return {called.get(found[name], name): found[name] for name in names}
