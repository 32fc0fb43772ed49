"""Plugging cards where the embedded network's data plane looks after them."""

from __future__ import annotations

from kilonova.base.errors import BadRequest, Unavailable
from kilonova.domain.guest import Nic
from kilonova.embedded.network import plane


class PlaneVifs:
    """A ``VifPlugger``: taps that are mute until the data plane has opened their port."""

    def __init__(self, env: plane.PlaneEnv) -> None:
        self._env = env

    async def plug(self, nic: Nic) -> None:
        if nic.vif_type in ("user", "fake"):
            return
        if nic.vif_type != "bridge":
            raise BadRequest(f"This host cannot connect a port of type {nic.vif_type}.")
        try:
            await plane.plug_tap(nic.device, nic.bridge, nic.mtu, self._env)
        except plane.PlaneError as error:
            raise Unavailable(f"The card {nic.device} could not be plugged: {error}") from error

    async def unplug(self, nic: Nic) -> None:
        if nic.vif_type == "bridge":
            await plane.unplug_tap(nic.device, self._env)
