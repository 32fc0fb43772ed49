"""The sagas: each reads top to bottom like what it does. Importing this registers them all."""

from kilonova.workflows.sagas import (
    build,
    delete,
    evacuate,
    interfaces,
    live,
    pause,
    power,
    resize,
    volumes,
)

__all__ = [
    "build",
    "delete",
    "evacuate",
    "interfaces",
    "live",
    "pause",
    "power",
    "resize",
    "volumes",
]
