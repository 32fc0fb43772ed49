"""The sagas: each reads top to bottom like what it does. Importing this registers them all."""

from kilonova.workflows.sagas import (
    build,
    delete,
    evacuate,
    images,
    interfaces,
    live,
    pause,
    power,
    remake,
    resize,
    shares,
    shelve,
    suspend,
    volumes,
)

__all__ = [
    "build",
    "delete",
    "evacuate",
    "images",
    "interfaces",
    "live",
    "pause",
    "power",
    "remake",
    "resize",
    "shares",
    "shelve",
    "suspend",
    "volumes",
]
