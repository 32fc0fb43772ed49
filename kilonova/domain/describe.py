"""From a server's rows to the complete description of its guest."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kilonova.domain.fit.shapes import Held
from kilonova.domain.guest import GuestMetadata, GuestSpec, InjectedFile, Keypair, Nic
from kilonova.domain.server import Private, Server

DEFAULT_ZONE = "nova"
IMAGE_PREFIX = "image_"
"""Before the image's properties in ``Private.system``, for servers without an image."""
BOOT_ROLES = "boot_roles"
"""The key of ``Private.system`` with the roles of who made the server, joined by commas."""


MAKER_NAME, MAKER_PROJECT = "owner_user_name", "owner_project_name"
"""Keys of ``Private.system`` with the names of who made the server, as images of it tell them."""


def guest_spec(
    server: Server,
    private: Private,
    *,
    nics: Sequence[Nic] | None = None,
    admin_pass: str | None = None,
    files: Sequence[InjectedFile] = (),
) -> GuestSpec:
    """The guest of a server that has a row in a cell; volumes without connection are left out.

    ``nics``: fresher ones than those kept with the server. ``admin_pass`` and ``files`` are known
    only while the server is being made.
    """
    keys: tuple[Keypair, ...] = ()
    if server.key_name and private.public_key:
        keys = (Keypair(server.key_name, private.public_key, private.key_type),)
    return GuestSpec(
        server_id=server.id,
        name=server.guest_name,
        flavor=server.flavor,
        image=server.image,
        disks=tuple(disk for disk in private.disks if disk.usable),
        nics=tuple(private.nics if nics is None else nics),
        metadata=GuestMetadata(
            server_id=server.id,
            project_id=server.project_id,
            user_id=server.user_id,
            name=server.name,
            hostname=server.hostname,
            availability_zone=server.availability_zone or DEFAULT_ZONE,
            launch_index=server.launch_index,
            reservation_id=server.reservation_id,
            meta=server.metadata,
            keys=keys,
            user_data=private.user_data,
            admin_pass=admin_pass,
            files=tuple(files),
            dedicated_cpus=dedicated_cpus(private.held),
            security_groups=server.security_groups,
            boot_roles=private.system.get(BOOT_ROLES) or msgspec.UNSET,
        ),
        config_drive=server.config_drive,
        root_device=(server.root_device or "vda").removeprefix("/dev/"),
        properties=image_properties(server, private),
        launched=server.launched_at is not None,
        held=private.held,
        shares=private.shares,
    )


def image_properties(server: Server, private: Private) -> dict[str, str]:
    """The properties of the server's image, or of the one its root volume was made from."""
    if server.image is not None:
        return server.image.properties
    mark = IMAGE_PREFIX
    return {
        name.removeprefix(mark): value
        for name, value in private.system.items()
        if name.startswith(mark)
    }


def with_properties(system: dict[str, str], properties: dict[str, str]) -> dict[str, str]:
    """``Private.system`` with these properties of what the root volume was made from."""
    other = {name: value for name, value in system.items() if not name.startswith(IMAGE_PREFIX)}
    return {**other, **{IMAGE_PREFIX + name: value for name, value in properties.items()}}


def dedicated_cpus(held: Held | msgspec.UnsetType) -> tuple[int, ...]:
    """The vCPUs with a CPU of their own, as the metadata service tells them to the guest."""
    if held is msgspec.UNSET or held.topology is None:
        return ()
    return tuple(sorted(cpu for cell in held.topology.cells for cpu in cell.pcpus))
