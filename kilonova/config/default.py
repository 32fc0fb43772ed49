"""``[DEFAULT]``: what every service shares."""

from __future__ import annotations

import socket
from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Default(msgspec.Struct, frozen=True):
    """``[DEFAULT]``."""

    host: Annotated[str, Opt("Name this host goes by in services, placement and the bus.")] = (
        socket.gethostname()
    )
    my_ip: Annotated[str, Opt("Address of this host towards the other hosts.")] = "127.0.0.1"
    state_path: Annotated[str, Opt("Directory of everything that must survive a restart.")] = (
        "/var/lib/nova"
    )
    instances_path: Annotated[
        str | None, Opt("Directory of the guests' disks; $state_path/instances when unset.")
    ] = None
    transport_url: Annotated[
        str | None, Opt("Where the broker is, rabbit://user:password@host:port/vhost.", secret=True)
    ] = None
    debug: Annotated[bool, Opt("Log debug lines too.", mutable=True)] = False
    use_json: Annotated[bool, Opt("Log one JSON object a line.")] = False
    log_file: Annotated[str | None, Opt("Log to this file instead of standard error.")] = None
    log_dir: Annotated[str | None, Opt("Log to a file named after the daemon in here.")] = None
