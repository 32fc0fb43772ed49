"""The operations of an agent: one decorated function per row of the operations table."""

from kilonova.compute.operations import (
    consoles,
    devices,
    disks,
    guests,
    hosts,
    images,
    live,
    moves,
    power,
)
from kilonova.compute.operations.handlers import HANDLERS, At, Handler

__all__ = [
    "HANDLERS",
    "At",
    "Handler",
    "consoles",
    "devices",
    "disks",
    "guests",
    "hosts",
    "images",
    "live",
    "moves",
    "power",
]
