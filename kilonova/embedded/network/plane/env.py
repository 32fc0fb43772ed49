"""Where a data plane works and what it tells after working."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from kilonova.base.clock import Clock, SystemClock


class PlaneError(Exception):
    """The host did not do what the data plane asked of it."""


class PlaneEnv(Struct, frozen=True):
    """One deployment on one host.

    ``deployment_id`` marks what is ours; hosts that share a machine need ids of their own.
    ``run_dir`` holds DHCP files (it must lie under directories anyone may pass through, for dnsmasq
    gives up being root; ``/run/kilonova/...`` is right). ``netns`` names the network namespace of
    bridges and taps (none: the one this process is in). ``tap_grace`` is the age in seconds under
    which a tap no plan names is left alone, for the plan may be older than the tap.
    """

    deployment_id: str
    run_dir: Path
    netns: str | None = None
    tap_grace: float = 60.0
    lease_time: int = 86400
    nft: str = "nft"
    dnsmasq: str = "dnsmasq"
    clock: Clock = SystemClock()


class Report(Struct, frozen=True):
    """What ``apply`` or ``destroy`` did: changes made, objects it could not bring right (the next
    run tries again), and things an operator should know. ``enforced``: the plan's rule set is the
    one in force, so guests may be let onto their ports."""

    changes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    enforced: bool = True
