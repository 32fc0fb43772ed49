"""The distribution's programs, as drivers run them."""

from __future__ import annotations

from kilonova.base.programs import find, run

__all__ = ["find", "run"]
