"""clouds.yaml: how the ordinary clients find the cloud."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from kilonova.services.layout import Layout, Secrets, write_private

REGION = "RegionOne"


def entries(layout: Layout, secrets: Secrets) -> dict[str, Any]:
    """The clouds ``kilonova`` (project demo, an ordinary member) and ``kilonova-admin``."""
    return {
        "kilonova": _cloud(layout, "demo", "demo", secrets.demo_password),
        "kilonova-admin": _cloud(layout, "admin", "admin", secrets.admin_password),
    }


def write(layout: Layout, secrets: Secrets) -> Path:
    """Write ``DIR/clouds.yaml`` (mode 0600); its path."""
    wanted = entries(layout, secrets)
    with _stamped(layout.state_dir / ".clouds", layout.clouds_yaml, wanted) as known:
        if not known:
            _store(layout.clouds_yaml, {"clouds": wanted})
    return layout.clouds_yaml


def merge(layout: Layout, secrets: Secrets) -> Path | None:
    """Add the entries to the user's own clouds.yaml; None when that cannot be done safely."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "openstack"
    file = config / "clouds.yaml"
    wanted = entries(layout, secrets)
    with _stamped(layout.state_dir / ".clouds-merged", file, wanted) as known:
        return file if known or _merge(file, wanted) else None


def _merge(file: Path, wanted: dict[str, Any]) -> bool:
    import yaml  # noqa: PLC0415 (slow, and most starts find nothing to write)

    present: Any = {}
    with contextlib.suppress(FileNotFoundError):
        try:
            present = yaml.safe_load(file.read_text()) or {}
        except (OSError, yaml.YAMLError):
            return False
    if not isinstance(present, dict) or not isinstance(present.get("clouds", {}), dict):
        return False
    clouds = present.setdefault("clouds", {})
    if all(clouds.get(name) == entry for name, entry in wanted.items()):
        return True
    clouds.update(wanted)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _store(file, present)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _stamped(stamp: Path, file: Path, wanted: dict[str, Any]) -> Iterator[bool]:
    """Whether ``file`` is as it was left when it last held what is wanted; notes how it is left."""

    def now() -> str:
        try:
            content = file.read_bytes()
        except OSError:
            return ""
        return hashlib.sha256(msgspec.json.encode(wanted) + content).hexdigest()

    with contextlib.suppress(OSError):
        if (mark := now()) and stamp.read_text() == mark:
            yield True
            return
    yield False
    write_private(stamp, now().encode())


def _cloud(layout: Layout, user: str, project: str, password: str) -> dict[str, Any]:
    return {
        "auth": {
            "auth_url": layout.url("identity", "/v3"),
            "username": user,
            "password": password,
            "project_name": project,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        "region_name": REGION,
        "identity_api_version": "3",
        "image_api_version": "2",
        "network_api_version": "2",
    }


def _store(file: Path, content: dict[str, Any]) -> None:
    import yaml  # noqa: PLC0415 (see above)

    write_private(file, yaml.safe_dump(content, sort_keys=False).encode())
