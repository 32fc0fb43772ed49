"""Cards of guests on this host's bridges: a plugger for hypervisors on a data plane of ours."""

from __future__ import annotations

from kilonova.base.errors import BadRequest, Unavailable
from kilonova.domain.guest import Nic
from kilonova.embedded.network import plane


class PlaneVifs:
    """Plugs and unplugs the taps of ports of ``vif_type`` bridge; other cards need nothing here.

    ``user``: the user id hypervisors run as, who may then open the taps; None for root.
    """

    def __init__(self, env: plane.PlaneEnv, user: int | None = None) -> None:
        self._env = env
        self._user = user

    async def plug(self, nic: Nic) -> None:
        """Make the card's tap on its network's bridge; repeated calls are harmless.

        Raises BadRequest for a kind of card this cannot make, Unavailable when the kernel refuses.
        """
        if nic.vif_type == "user":
            return
        if nic.vif_type != "bridge":
            raise BadRequest(f"This host cannot connect a port of type {nic.vif_type}.")
        try:
            await plane.plug_tap(nic.device, nic.bridge, nic.mtu, self._env, self._user)
        except (plane.PlaneError, OSError) as error:
            raise Unavailable(f"The card of port {nic.port_id} was not plugged: {error}") from error

    async def unplug(self, nic: Nic) -> None:
        """Remove the tap; nothing there is success."""
        if nic.vif_type != "bridge":
            return
        try:
            await plane.unplug_tap(nic.device, self._env)
        except (plane.PlaneError, OSError) as error:
            raise Unavailable(
                f"The card of port {nic.port_id} was not unplugged: {error}"
            ) from error
