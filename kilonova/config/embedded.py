"""``[embedded]``: the identity, image, network and volume services that come with kilonova."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Embedded(msgspec.Struct, frozen=True):
    """``[embedded]``: read by ``kilonova serve``; databases are SQLite files by default."""

    listen: Annotated[str, Opt("Address these services listen on.")] = "0.0.0.0"
    identity_connection: Annotated[
        str | None, Opt("SQLAlchemy URL of the identity service.", secret=True)
    ] = None
    image_connection: Annotated[
        str | None, Opt("SQLAlchemy URL of the image service.", secret=True)
    ] = None
    network_connection: Annotated[
        str | None, Opt("SQLAlchemy URL of the network service.", secret=True)
    ] = None
    volume_connection: Annotated[
        str | None, Opt("SQLAlchemy URL of the block storage service.", secret=True)
    ] = None
    key_dir: Annotated[
        str | None, Opt("Directory of the token keys; $state_path/keys when unset.")
    ] = None
    image_dir: Annotated[
        str | None, Opt("Directory of the images' data; $state_path/images when unset.")
    ] = None
    volume_dir: Annotated[
        str | None, Opt("Directory of the volumes' data; $state_path/volumes when unset.")
    ] = None
    volume_export: Annotated[
        str,
        Opt(
            "How other hosts reach volumes. nbd: over NBD with TLS at my_ip; none: in a directory "
            "they share, by the same path; auto: nbd where qemu-storage-daemon is installed.",
            choices=("auto", "nbd", "none"),
        ),
    ] = "auto"
    volume_export_tls: Annotated[
        bool, Opt("Let only hosts with the service's key reach exported volumes, encrypted.")
    ] = True
    volume_export_port: Annotated[int, Opt("Port of the exported volumes.")] = 10809
    admin_password: Annotated[
        str | None,
        Opt("Password of the user admin; users and catalog are made when it is set.", secret=True),
    ] = None
    service_password: Annotated[
        str | None,
        Opt("Password of nova, placement, glance, neutron, cinder; as admin's.", secret=True),
    ] = None
    demo_password: Annotated[
        str | None, Opt("Password of the user demo; as admin's when unset.", secret=True)
    ] = None
    region: Annotated[str, Opt("Region of the catalog's endpoints.")] = "RegionOne"
    endpoints: Annotated[
        dict[str, str],
        Opt("Base URLs (compute:http://host:8774,…); standard ports of my_ip for the rest."),
    ] = {}
    network_mode: Annotated[
        str,
        Opt(
            "bridge: real networks; user: user-mode networks of the hypervisor; none: simulated.",
            choices=("bridge", "user", "none"),
        ),
    ] = "bridge"
    network_agent: Annotated[
        bool,
        Opt("nova-compute: look after the embedded network service's networks on this host."),
    ] = False
