"""clouds.yaml: how the ordinary clients find the cloud."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import yaml

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
    _store(layout.clouds_yaml, {"clouds": entries(layout, secrets)})
    return layout.clouds_yaml


def merge(layout: Layout, secrets: Secrets) -> Path | None:
    """Add the entries to the user's own clouds.yaml; None when that cannot be done safely."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "openstack"
    file = config / "clouds.yaml"
    present: Any = {}
    with contextlib.suppress(FileNotFoundError):
        try:
            present = yaml.safe_load(file.read_text()) or {}
        except (OSError, yaml.YAMLError):
            return None
    if not isinstance(present, dict) or not isinstance(present.get("clouds", {}), dict):
        return None
    wanted = entries(layout, secrets)
    clouds = present.setdefault("clouds", {})
    if all(clouds.get(name) == entry for name, entry in wanted.items()):
        return file
    clouds.update(wanted)
    try:
        config.mkdir(parents=True, exist_ok=True)
        _store(file, present)
    except OSError:
        return None
    return file


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
    write_private(file, yaml.safe_dump(content, sort_keys=False).encode())
