"""Vendor data: what an operator tells every guest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from kilonova.config.settings import Settings
from kilonova.services.startup import Unconfigured


def data(settings: Settings) -> dict[str, Any]:
    """The object in ``[api] vendordata_jsonfile_path``; empty when there is none.

    Unconfigured for a file that cannot be read or holds something else.
    """
    file = settings.api.vendordata_jsonfile_path
    if not file or "StaticJSON" not in settings.api.vendordata_providers:
        return {}
    try:
        read: dict[str, Any] = msgspec.json.decode(Path(file).read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise Unconfigured(
            f"[api] vendordata_jsonfile_path: {file} cannot be read ({error.strerror})."
        ) from None
    except msgspec.MsgspecError as error:
        raise Unconfigured(
            f"[api] vendordata_jsonfile_path: {file} is no JSON object ({error})."
        ) from None
    return read
