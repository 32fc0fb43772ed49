"""Passwords inside guests, set by their agent; a function for threads."""

from __future__ import annotations

import logging
from typing import Any

import libvirt

from kilonova.base.errors import Conflict, NotSupported

SECONDS = 20
SILENT = frozenset({libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED})
HERE = frozenset({libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID})

log = logging.getLogger(__name__)


def give(connection: Any, server_id: str, user: str, password: str) -> None:
    """NotSupported when no agent answers, Conflict when it refuses."""
    domain = connection.lookupByUUIDString(server_id)
    try:
        domain.agentSetResponseTimeout(SECONDS)
        domain.setUserPassword(user, password)
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code in SILENT:
            raise NotSupported(
                "set_admin_password is not implemented by this driver or guest instance: its "
                "agent does not answer."
            ) from None
        if code in HERE:
            raise
        log.info("A guest's agent did not set a password (libvirt error %d)", code)
        raise Conflict("error setting admin password") from None
