"""The sagas: each reads top to bottom like what it does. Importing this registers them all."""

from kilonova.workflows.sagas import (
    build,
    delete,
    images,
    interfaces,
    pause,
    power,
    shelve,
    suspend,
    volumes,
)

__all__ = [
    "build",
    "delete",
    "images",
    "interfaces",
    "pause",
    "power",
    "shelve",
    "suspend",
    "volumes",
]
