"""What we need of a network service: a dozen calls, not Neutron's hundred."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from kilonova.domain.guest import Nic


class Network(msgspec.Struct, frozen=True):
    """A network as far as creating a server asks."""

    id: str
    name: str
    project_id: str
    shared: bool = False
    external: bool = False
    mtu: int = 1500
    port_security: bool = True
    subnets: tuple[str, ...] = ()


class Port(msgspec.Struct, frozen=True):
    """A port with its binding. ``ips`` are (address, subnet id).

    ``ip_allocation`` says why there may be none: none, deferred, or immediate, which is an error.
    ``resource_request``: it asks for bandwidth or packet rate, which Placement keeps.
    ``mark`` is set on ports we made (see NewPort); ports of users have none.
    """

    id: str
    network_id: str
    project_id: str
    mac: str
    status: str = "DOWN"
    device_id: str = ""
    device_owner: str = ""
    host: str = ""
    vif_type: str = "unbound"
    vnic_type: str = "normal"
    ips: tuple[tuple[str, str], ...] = ()
    security_groups: tuple[str, ...] = ()
    name: str = ""
    mark: str = ""
    ip_allocation: str = "none"
    resource_request: bool = False


class NewPort(msgspec.Struct, frozen=True):
    """A port to make for a server.

    ``mark`` names it among the server's ports (its place in the list of wanted networks), so that
    making it twice finds the first one, and undoing finds it when the answer was lost. ``first``:
    it is certain that nobody asked for it before, so it need not be looked for. ``dns_name`` is the
    server's host name, for services that give names.
    """

    mark: str
    network_id: str
    project_id: str
    server_id: str
    name: str = ""
    fixed_ip: str | None = None
    security_groups: tuple[str, ...] | None = None
    availability_zone: str = ""
    first: bool = False
    dns_name: str = ""


class NetworkService(Protocol):
    """``token`` is the user's; calls without it are made as our service user.

    All changes are idempotent: making what is there, binding what is bound, deleting what is gone
    succeed.
    """

    async def networks(
        self, *, token: str, project_id: str, ids: tuple[str, ...] = (), sees_all: bool = True
    ) -> list[Network]:
        """Networks the project may use: its own and shared ones, or just those of ``ids``.

        ``sees_all``: the token may be an administrator's, who is shown those of all projects.
        """

    async def ports(
        self,
        *,
        ids: tuple[str, ...] = (),
        server_id: str = "",
        network_id: str = "",
        address: str = "",
    ) -> list[Port]:
        """Ports by id, by their address on a network, or by the server they belong to."""

    async def segments(self, network_id: str, *, subnets: tuple[str, ...] = ()) -> list[str]:
        """The segments of a routed network, or of those of its subnets; none of any other."""

    async def compute_ports(self) -> list[Port]:
        """Every port that belongs to a server."""

    async def security_groups(
        self, *, token: str, project_id: str, names: tuple[str, ...]
    ) -> dict[str, str]:
        """Name or id → id of the project's groups; those not found are left out."""

    async def auto_network(self, *, token: str, project_id: str, dry_run: bool) -> str:
        """The id of the project's automatically made network ('' for a dry run that would work)."""

    async def create_port(self, port: NewPort) -> Port:
        """Make a port; Conflict when the address is taken, Forbidden over quota."""

    async def delete_made_ports(self, server_id: str, *, mark: str | None = None) -> None:
        """Delete the server's ports that carry our mark (that one, or any)."""

    async def claim_port(
        self, port_id: str, *, server_id: str, availability_zone: str, dns_name: str = ""
    ) -> Port:
        """Give an existing, free port to a server; Conflict when another has it."""

    async def bind_port(self, port_id: str, *, host: str) -> Port:
        """Bind to a host; Unavailable when the binding failed there."""

    async def bind_also(self, nic: Nic, *, host: str) -> Nic:
        """Bind the card's port to a second host, where it waits to be activated; the card as it is
        there. A second time is as good. Unavailable when the binding failed."""

    async def activate_binding(self, port_id: str, *, host: str) -> None:
        """Make that host's binding the one that counts; the former one is gone then."""

    async def drop_binding(self, port_id: str, *, host: str) -> None:
        """End the binding that waits on that host; nothing there is success."""

    async def unbind_port(self, port_id: str) -> None:
        """Take the binding, the device and its name off; the port stays."""

    async def leave_host(self, port_id: str) -> None:
        """Take only the binding off: the port stays its server's."""

    async def delete_port(self, port_id: str) -> None:
        """Delete; a port that is gone is success."""

    async def nics(
        self, server_id: str, port_ids: tuple[str, ...], *, new: bool = False
    ) -> list[Nic]:
        """The server's bound ports in that order, complete with addresses, routes and MTU.

        ``new``: all of them were just made, so that no floating IP leads to them yet.
        """


class NetworkDocuments(Protocol):
    """The network service's own resources as its documents, for what only passes them on.

    ``kind`` is a collection: networks, ports, subnets, security-groups, security-group-rules,
    floatingips. ``token`` None speaks as our service user.
    """

    async def find(self, kind: str, *, token: str | None, **filters: Any) -> list[dict[str, Any]]:
        """Those that match, in the service's order."""

    async def show(self, kind: str, item_id: str, *, token: str | None) -> dict[str, Any] | None:
        """One of them; None when it is not there or not for this caller."""

    async def create(
        self, kind: str, values: dict[str, Any], *, token: str | None
    ) -> dict[str, Any]:
        """Make one. The Fault of the service's answer: BadRequest, Conflict, …"""

    async def update(
        self, kind: str, item_id: str, values: dict[str, Any], *, token: str | None
    ) -> dict[str, Any]:
        """Change one; NotFound and others as the service answers."""

    async def delete(self, kind: str, item_id: str, *, token: str | None) -> None:
        """Remove one; NotFound and others as the service answers."""
