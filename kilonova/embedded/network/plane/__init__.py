"""The data plane of the network service: from pure desired state to links, rules and servers."""

from kilonova.embedded.network.plane.apply import (
    Plane,
    apply,
    audit,
    capable,
    destroy,
    leftovers,
    plug_tap,
    unplug_tap,
)
from kilonova.embedded.network.plane.desired import BadPlan, HostPlan
from kilonova.embedded.network.plane.env import PlaneEnv, PlaneError, Report

__all__ = [
    "BadPlan",
    "HostPlan",
    "Plane",
    "PlaneEnv",
    "PlaneError",
    "Report",
    "apply",
    "audit",
    "capable",
    "destroy",
    "leftovers",
    "plug_tap",
    "unplug_tap",
]
