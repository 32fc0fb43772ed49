"""What is asked of the scheduler for one or more equal servers, and what it answers."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.domain.explain import Why
from kilonova.domain.fit import wanted
from kilonova.domain.fit.host import Wanted
from kilonova.domain.fit.shapes import DeviceRequest
from kilonova.domain.guest import FlavorSpec, ImageRef
from kilonova.domain.server import BuildSpec, Server


class ServerGroup(msgspec.Struct, frozen=True):
    """The group the servers belong to, as it is now.

    ``counts``: host → members there, the servers of the request left out. ``rules``:
    ``max_server_per_host`` of anti-affinity.
    """

    id: str
    policy: str
    rules: dict[str, Any] = {}
    counts: dict[str, int] = {}


class ResourceGroup(msgspec.Struct, frozen=True):
    """Resources that must come from one provider: of a port, an accelerator, a flavor's group."""

    suffix: str
    resources: dict[str, int] = {}
    required: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    member_of: tuple[tuple[str, ...], ...] = ()
    in_tree: str | None = None


class RequestSpec(msgspec.Struct, frozen=True):
    """Servers to place. It is kept and asked again at every move.

    ``force_host``/``force_node`` (the ``zone:host:node`` form) pass the filters by;
    ``requested_host``/``requested_node`` do not. ``ignore_hosts`` were tried already or are being
    left. ``cell_id`` limits the search to one cell; ``source_cell_id`` is where a moving server
    comes from. ``networks`` are resource groups of ports; ``vnic_types`` their kinds.
    ``shape``: what is wanted of the host's NUMA cells, CPUs, pages and devices. ``rebuild`` runs
    only the filters that look at the image.
    """

    servers: tuple[str, ...]
    project_id: str
    user_id: str
    flavor: FlavorSpec
    image: ImageRef | None = None
    boot_from_volume: bool = False
    availability_zone: str | None = None
    force_host: str | None = None
    force_node: str | None = None
    requested_host: str | None = None
    requested_node: str | None = None
    ignore_hosts: tuple[str, ...] = ()
    cell_id: str | None = None
    source_cell_id: str | None = None
    group: ServerGroup | None = None
    hints: dict[str, Any] = {}
    networks: tuple[ResourceGroup, ...] = ()
    vnic_types: tuple[str, ...] = ()
    pci_devices: int = 0
    shape: Wanted = Wanted()
    rebuild: bool = False
    dry_run: bool = False

    @property
    def properties(self) -> dict[str, str]:
        """The image's properties."""
        return self.image.properties if self.image else {}

    @property
    def num_instances(self) -> int:
        """How many servers."""
        return len(self.servers)

    def hint(self, name: str) -> list[str]:
        """A scheduler hint as a list of texts, whatever form it was given in."""
        value = self.hints.get(name)
        if value is None:
            return []
        return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


class HostRef(msgspec.Struct, frozen=True):
    """A place for a server: where, and what to claim there.

    ``group``: the server group whose rule is checked before anything is claimed.
    """

    host: str
    node: str
    provider: str
    cell_id: str
    allocations: dict[str, dict[str, int]] = {}
    mappings: dict[str, tuple[str, ...]] = {}
    service_version: int = 0
    # Not written when there is none: journals hold the hash of a host as it was before.
    group: str | msgspec.UnsetType = msgspec.UNSET


class Cut(msgspec.Struct, frozen=True):
    """One step of the selection: how many hosts came in and were left, and why others were not.

    ``reasons``: host → sentence, of at most some hundred hosts.
    """

    step: str
    before: int
    left: int
    reasons: dict[str, str] = {}


class Selection(msgspec.Struct, frozen=True):
    """The answer: for every server, in the order of the request, its host and then alternates in
    the same cell. Empty when not every server finds a host; ``cuts`` and ``why`` say why."""

    servers: tuple[tuple[HostRef, ...], ...] = ()
    cuts: tuple[Cut, ...] = ()
    weights: dict[str, float] = {}
    why: Why | None = None

    @property
    def reason(self) -> str:
        """Why there is no host, in one line for the server's fault; empty when there is one."""
        if self.servers:
            return ""
        parts = [_tell(cut) for cut in self.cuts if cut.left < cut.before or not cut.before]
        return "No valid host was found. " + (
            " ".join(parts) or "There are not enough hosts available."
        )


def _tell(cut: Cut) -> str:
    if not cut.before:
        return f"{cut.step}."
    shown = "; ".join(f"{host}: {why}" for host, why in list(cut.reasons.items())[:5])
    more = f" and {len(cut.reasons) - 5} more" if len(cut.reasons) > 5 else ""
    return f"{cut.step} left {cut.left} of {cut.before}" + (f" ({shown}{more})." if shown else ".")


def request_of(
    server: Server,
    spec: BuildSpec,
    *,
    group: ServerGroup | None = None,
    boot_from_volume: bool = False,
    ignore_hosts: tuple[str, ...] = (),
    devices: tuple[DeviceRequest, ...] = (),
) -> RequestSpec:
    """What to ask for one server, from its record and what was said when it was made.

    ``devices``: the PCI devices its flavor names, see `domain.fit.pci.requests`. BadRequest for
    words of flavor and image that contradict each other.
    """
    properties = server.image.properties if server.image else {}
    return RequestSpec(
        servers=(server.id,),
        project_id=server.project_id,
        user_id=server.user_id,
        flavor=server.flavor,
        image=server.image,
        boot_from_volume=boot_from_volume,
        availability_zone=spec.zone,
        force_host=spec.host,
        force_node=spec.node,
        requested_host=spec.wanted_host,
        requested_node=spec.wanted_node,
        ignore_hosts=(*spec.ignore_hosts, *ignore_hosts),
        group=group,
        hints=spec.hints,
        pci_devices=sum(request.count for request in devices),
        shape=Wanted(wanted.topology(server.flavor, properties), devices),
    )
