"""What an agent tells the conductor: that it lives, what its host offers, what its guests do."""

from __future__ import annotations

import msgspec

from kilonova.domain.guest import GuestStatus, HostReport, ImageRef

CONDUCTOR = "conductor"


def topic(host: str) -> str:
    """The bus topic an agent serves (``compute.<host>``).

    Methods: operate, guests, status, leftovers, cache_image.
    """
    return f"compute.{host}"


class Heartbeat(msgspec.Struct, frozen=True):
    """Cast to the conductor as ``heartbeat`` every ``[DEFAULT] report_interval`` seconds.

    ``node_uuid`` is the compute node's (and its resource provider's) stable id. ``report`` is sent
    at the start, when it changed, and every few minutes; otherwise None. ``boot`` counts the
    agent's starts, so that an old process cannot speak for a new one.
    """

    host: str
    binary: str
    node_uuid: str
    boot: str
    version: int
    report: HostReport | None = None
    stopping: bool = False


class DriverAway(msgspec.Struct, frozen=True):
    """Cast to the conductor as ``driver_away`` when a host's hypervisor stops answering.

    ``driver`` is ``[DEFAULT] compute_driver``; ``ip`` the host's address.
    """

    host: str
    ip: str
    driver: str
    reason: str


class Welcome(msgspec.Struct, frozen=True):
    """The conductor's answer to a heartbeat that was called: what the agent ought to know.

    ``evacuated``: servers that were made anew elsewhere; their guests here must not start again.
    """

    accepted: bool
    disabled: bool = False
    reason: str = ""
    evacuated: tuple[str, ...] = ()


class GuestEvent(msgspec.Struct, frozen=True):
    """Cast to the conductor as ``guest_event`` when a guest changed its power state by itself."""

    host: str
    status: GuestStatus


class GuestList(msgspec.Struct, frozen=True):
    """The answer of the agent's method ``guests``."""

    host: str
    guests: tuple[GuestStatus, ...]


class Known(msgspec.Struct, frozen=True):
    """The argument of the agent's method ``leftovers``: the servers that have a right to it."""

    servers: tuple[str, ...]


class Leftovers(msgspec.Struct, frozen=True):
    """The answer of ``leftovers``: what is on the host for no server known, one line each.

    ``networks``: where the host's network differs from what the network service wants there.
    """

    host: str
    lines: tuple[str, ...]
    networks: tuple[str, ...] = ()


class GuestAsk(msgspec.Struct, frozen=True):
    """The argument of the agent's method ``status``; the answer is a GuestStatus."""

    server_id: str


class WantedImage(msgspec.Struct, frozen=True):
    """The argument of the agent's method ``cache_image``; it says whether the image is there."""

    image: ImageRef


class WantedImages(msgspec.Struct, frozen=True):
    """The argument of the conductor's method ``cache_images``: images for hosts of an aggregate."""

    aggregate_id: int
    hosts: tuple[str, ...]
    images: tuple[ImageRef, ...]
