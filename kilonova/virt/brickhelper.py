"""``python -m kilonova.virt.brickhelper``: one request to os-brick, in a process of its own.

It runs as root. The request is JSON on the standard input, so that secrets of connections are on no
command line; the answer is JSON on the standard output. It exists for a moment only: nothing of
os-brick's own threads, locks and privileged daemons lives in the agent.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOCKS = Path(tempfile.gettempdir()) / "kilonova-brick"


def act(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """``action``: connector (facts of this host), connect, disconnect or extend."""
    connector = _library()
    multipath = bool(wanted.get("multipath"))
    if wanted["action"] == "connector":
        enforce = bool(wanted.get("enforce_multipath"))
        found: dict[str, Any] = connector.get_connector_properties(
            "", wanted["ip"], multipath, enforce, host=wanted["host"]
        )
        return found
    data = dict(wanted["data"])
    made = connector.InitiatorConnector.factory(
        wanted["kind"].upper(),
        "",
        use_multipath=multipath,
        device_scan_attempts=int(wanted.get("tries") or 3),
        conn=data,
    )
    if wanted["action"] == "connect":
        path = made.connect_volume(data)["path"]
        return {"path": path.decode() if isinstance(path, bytes) else str(path)}
    if wanted["action"] == "extend":
        return {"size": made.extend_volume(data)}
    info = {"path": wanted["path"]} if wanted.get("path") else None
    made.disconnect_volume(data, info)
    return {}


def _library() -> Any:
    """os-brick, told that this process may do everything by itself."""
    import os_brick  # noqa: PLC0415
    from os_brick import privileged  # noqa: PLC0415
    from os_brick.initiator import connector  # noqa: PLC0415
    from oslo_concurrency import lockutils  # noqa: PLC0415
    from oslo_config import cfg  # noqa: PLC0415

    for context in (privileged.default, privileged.brick_privsep_hide_output):
        context.set_client_mode(False)
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    lockutils.set_defaults(str(LOCKS))
    cfg.CONF([], project="kilonova", default_config_files=[], default_config_dirs=[])
    os_brick.setup(cfg.CONF)
    return connector


def main() -> None:
    """Answer one request; exit 1 with the reason."""
    warnings.simplefilter("ignore")
    try:
        json.dump(act(json.load(sys.stdin)), sys.stdout)
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
