"""``[kilonova]``: the options that Nova and Placement do not have."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Kilonova(msgspec.Struct, frozen=True):
    """``[kilonova]``."""

    health_port: Annotated[
        int,
        Opt(
            "Port of /healthcheck and /metrics of daemons that serve no API; 0 for none.",
            min=0,
            max=65535,
        ),
    ] = 0
    health_listen: Annotated[str, Opt("Address of that port.")] = "127.0.0.1"
    placement_listen: Annotated[str, Opt("Address placement-api listens on.")] = "0.0.0.0"
    placement_listen_port: Annotated[
        int, Opt("Port placement-api listens on.", min=0, max=65535)
    ] = 8778
    metadata_url: Annotated[
        str,
        Opt("Metadata service for guests on user-mode networks, asked on their behalf."),
    ] = "http://127.0.0.1:8775"
    broker_seconds: Annotated[
        int, Opt("How long a starting daemon waits for the message broker.", min=1)
    ] = 15
    event_loop: Annotated[
        str,
        Opt(
            "uvloop, asyncio, or auto: uvloop if it is installed.",
            choices=("auto", "asyncio", "uvloop"),
        ),
    ] = "auto"
    notifications_kept: Annotated[
        int,
        Opt(
            "Notifications each database keeps while the broker does not take them; older ones go.",
            min=1,
        ),
    ] = 100_000
    disk_copy_ports: Annotated[
        str,
        Opt("Ports at my_ip from which other hosts fetch the disks of guests that move to them."),
    ] = "49216:49471"
    explanation_days: Annotated[
        int, Opt("Days that explanations of failed placements are kept.", min=1)
    ] = 7
