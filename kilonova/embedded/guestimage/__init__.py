"""Builds a small bootable guest image from the distribution's own packages."""

from __future__ import annotations

from .image import GuestImage, Progress, build
from .tools import GuestImageError

__all__ = ["GuestImage", "GuestImageError", "Progress", "build"]
