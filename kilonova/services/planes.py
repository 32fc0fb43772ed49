"""What the embedded network's data plane is called on this host."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kilonova.embedded.network.plane import PlaneEnv


def plane_env(state_dir: Path) -> PlaneEnv:
    """The data plane's own names and directory for the cloud on ``state_dir``."""
    mark = hashlib.sha256(str(state_dir).encode()).hexdigest()[:8]
    return PlaneEnv(deployment_id=mark, run_dir=Path("/run/kilonova") / mark)
