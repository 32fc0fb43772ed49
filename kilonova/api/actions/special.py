"""Servers with something special, to which some actions cannot be done at all."""

from __future__ import annotations

from collections.abc import Mapping

from kilonova.base.errors import BadRequest
from kilonova.db.database import Tx
from kilonova.domain.describe import image_properties
from kilonova.domain.extra_specs import TRUE
from kilonova.store import servers

ENCRYPTED = frozenset({"suspend", "os-migrateLive"})
WITH_TPM = frozenset({"rebuild", "shelve", "rescue", "evacuate"})
WITH_PROFILE = frozenset({"resize", "migrate", "suspend", "os-migrateLive"})
WITH_ACCELERATED_PORT = frozenset(
    {"resize", "migrate", "shelve", "shelveOffload", "suspend", "os-migrateLive", "evacuate"}
)


def check(tx: Tx, server_id: str, action: str) -> None:
    """BadRequest for an action that what is special about the server rules out (cell database).

    Source: API reference, "Servers - run an action", the restrictions of each action.
    """
    server, private = servers.get(tx, server_id), servers.private(tx, server_id)
    if server is None or private is None:
        return
    specs, properties = server.flavor.extra_specs, image_properties(server, private)
    asks = {
        "encrypted memory": (ENCRYPTED, _encrypted(specs, properties)),
        "a virtual TPM": (WITH_TPM, _has_tpm(specs, properties)),
        "an accelerator": (WITH_PROFILE, bool(specs.get("accel:device_profile"))),
        "a port with an accelerator": (
            WITH_ACCELERATED_PORT,
            any(nic.vnic_type.startswith("accelerator-direct") for nic in private.nics),
        ),
    }
    for what, (refused, has) in asks.items():
        if has and action in refused:
            raise BadRequest(f"Instance {server_id} has {what}; it cannot be used with '{action}'.")


def _encrypted(specs: Mapping[str, str], properties: Mapping[str, str]) -> bool:
    word = specs.get("hw:mem_encryption") or properties.get("hw_mem_encryption") or ""
    return word.lower() in TRUE


def _has_tpm(specs: Mapping[str, str], properties: Mapping[str, str]) -> bool:
    return bool(specs.get("hw:tpm_version") or properties.get("hw_tpm_version"))
