"""Taps on bridges, in a network namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="making taps needs root"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare"),
]
ROOT = Path(__file__).parents[2]

PLUG = """
import asyncio
from pathlib import Path
from kilonova.base.errors import BadRequest, Unavailable
from kilonova.domain.guest import Nic
from kilonova.virt import vifs

async def main():
    plug = vifs.LinuxBridgeVifs()
    nic = Nic(port_id="0123456789abcdef", mac="fa:16:3e:00:00:01", network_id="n",
              bridge="brq-test", mtu=1450)
    for _ in range(2):
        await plug.plug(nic)
    at = Path("/sys/class/net/tap0123456789a")
    assert (at / "brport").is_dir() and (at / "master").resolve().name == "brq-test"
    assert (at / "mtu").read_text().strip() == "1450"
    assert int((at / "flags").read_text(), 16) & 1, "not up"
    assert await asyncio.to_thread(vifs.taps) == ["tap0123456789a"]
    for _ in range(2):
        await plug.unplug(nic)
    assert await asyncio.to_thread(vifs.taps) == []
    try:
        vifs.open_tap("tap0123456789a")
    except Unavailable:
        pass
    else:
        raise AssertionError("opened a tap that is not there")
    try:
        await plug.plug(Nic(port_id="p", mac="", network_id="n", vif_type="ovs"))
    except BadRequest:
        pass
    else:
        raise AssertionError("plugged what it cannot")

asyncio.run(main())
"""

GUEST = """
import asyncio, sys
from pathlib import Path
from kilonova.base.clock import SystemClock
from kilonova.config.hypervisor import Libvirt, Qemu
from kilonova.config.settings import Settings
from kilonova.domain.guest import Nic, PowerState
from kilonova.virt.driver import Host
from kilonova.virt.qemu import QemuDriver
from kilonova.virt.vifs import LinuxBridgeVifs, taps
from tests.support.guests import SERVER, Events, Files, spec

async def main():
    settings = Settings(libvirt=Libvirt(virt_type="qemu"), qemu=Qemu(user="nobody"))
    path = Path(sys.argv[1])
    driver = QemuDriver(Host(name="h", state_dir=path, images=Files(), vifs=LinuxBridgeVifs(),
                             clock=SystemClock(), on_event=Events(), settings=settings))
    await driver.start()
    nics = tuple(Nic(port_id=f"{n}123456789abcdef", mac=f"fa:16:3e:00:00:0{n}", network_id="n",
                     bridge="brq-test") for n in (1, 2))
    guest = spec(nics=nics)
    status = await driver.spawn(guest, paused=False)
    assert status.power == PowerState.RUNNING
    uids = Path(f"/proc/{status.pid}/status").read_text().split("Uid:")[1].split()[:4]
    assert set(uids) == {"65534"}, uids
    for tap in ("tap1123456789a", "tap2123456789a"):
        assert Path(f"/sys/class/net/{tap}/carrier").read_text().strip() == "1"
    assert await driver.leftovers(frozenset({SERVER})) == []
    assert len(await driver.leftovers(frozenset())) == 4
    other = Nic(port_id="3123456789abcdef", mac="fa:16:3e:00:00:03", network_id="n",
                bridge="brq-test")
    for _ in range(2):
        await driver.attach_nic(guest, other)
    assert Path("/sys/class/net/tap3123456789a/carrier").read_text().strip() == "1"
    told = await driver.diagnostics(SERVER)
    assert [n.name for n in told.nics][2:] == ["tap3123456789a"]
    assert told.nics[2].rx_octets is not None
    assert await driver.leftovers(frozenset({SERVER})) == []
    assert (await driver.reboot(guest, hard=True)).power == PowerState.RUNNING
    await driver.destroy(guest, keep_disks=False)
    assert await asyncio.to_thread(taps) == []
    assert await driver.leftovers(frozenset()) == []
    await driver.stop()

asyncio.run(main())
"""


def in_namespace(script: str, *arguments: str) -> None:
    done = subprocess.run(
        [
            *("unshare", "-n", "-m", "sh", "-c", 'mount -t sysfs none /sys; exec "$@"', "sh"),
            *(sys.executable, "-W", "error", "-c", script, *arguments),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_plugging_is_idempotent_and_leaves_nothing() -> None:
    in_namespace(PLUG)


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU")
def test_a_guest_of_an_unprivileged_user_on_a_bridge() -> None:
    """QEMU inherits the taps, so it needs no right to open them."""
    path = Path(f"/tmp/kilonova-vifs-{os.getpid()}")
    path.mkdir(mode=0o755)
    try:
        in_namespace(GUEST, str(path))
    finally:
        shutil.rmtree(path)
