from __future__ import annotations

from pathlib import Path

import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.errors import BadRequest, Unavailable
from kilonova.config.hypervisor import Libvirt
from kilonova.config.settings import Settings
from kilonova.domain.guest import PowerState
from kilonova.virt.accel import Accel
from kilonova.virt.driver import Host
from kilonova.virt.load import maker
from tests.support.guests import SERVER, Events, Files, Plugs, spec

libvirt = pytest.importorskip("libvirt")
TCG = Accel("tcg", "qemu64")


def test_machine_types() -> None:
    from kilonova.virt.libvirt.driver import machine_type

    assert machine_type(()) == "pc"
    assert machine_type(("aarch64=virt", "x86_64=q35")) == "q35"


def test_cpus_that_cannot_be() -> None:
    from kilonova.virt.libvirt.driver import check_cpu

    with pytest.raises(Unavailable, match="host-passthrough"):
        check_cpu(TCG, "host-passthrough", ())
    with pytest.raises(Unavailable, match="cpu_models"):
        check_cpu(TCG, "custom", ())
    check_cpu(TCG, "custom", ("qemu64",))
    check_cpu(Accel("kvm", "host"), "host-passthrough", ())


def test_states() -> None:
    from kilonova.virt.libvirt.domains import Live

    assert Live(libvirt.VIR_DOMAIN_RUNNING, 1).power == PowerState.RUNNING
    assert Live(libvirt.VIR_DOMAIN_PAUSED, 1).power == PowerState.PAUSED
    assert Live(libvirt.VIR_DOMAIN_PMSUSPENDED, 1).power == PowerState.SUSPENDED
    going = Live(libvirt.VIR_DOMAIN_SHUTDOWN, 1)
    assert (going.power, going.active) == (PowerState.SHUTDOWN, True)
    off = Live(libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)
    assert (off.power, off.active) == (PowerState.SHUTDOWN, False)
    crashed = Live(libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED)
    assert (crashed.power, crashed.active) == (PowerState.CRASHED, False)


def test_counters() -> None:
    from kilonova.virt.libvirt import counters

    told = {
        "vcpu.current": 1,
        "vcpu.0.time": 5,
        "balloon.rss": 2048,
        "net.count": 1,
        "net.0.name": "tap-1",
        "net.0.rx.bytes": 7,
        "block.count": 1,
        "block.0.name": "vda",
        "block.0.rd.reqs": 3,
    }
    made = counters.diagnostics(spec(), power=PowerState.RUNNING, kind="qemu", told=told)
    assert (made.state, made.driver, made.used_memory) == ("running", "libvirt", 2)
    assert made.cpus[0].time == 5
    assert (made.nics[0].name, made.nics[0].rx_octets) == ("tap-1", 7)
    assert (made.disks[0].name, made.disks[0].read_requests) == ("vda", 3)
    none = counters.diagnostics(spec(), power=PowerState.SHUTDOWN, kind="qemu", told={})
    assert (none.state, none.cpus, none.disks) == ("shutdown", (), ())


async def test_without_a_libvirtd_it_says_what_to_do(tmp_path: Path) -> None:
    uri = f"qemu+unix:///system?socket={tmp_path / 'nobody'}"
    driver = maker("libvirt.LibvirtDriver")(
        Host(
            name="h1",
            state_dir=tmp_path,
            images=Files(),
            vifs=Plugs(),
            clock=SystemClock(),
            on_event=Events(),
            settings=Settings(libvirt=Libvirt(virt_type="qemu", connection_uri=uri)),
        )
    )
    with pytest.raises(Unavailable, match="start libvirtd"):
        await driver.start()
    assert (await driver.status(SERVER)).power == PowerState.NOSTATE


def test_other_names_are_told() -> None:
    with pytest.raises(BadRequest, match=r"libvirt\.LibvirtDriver"):
        maker("no.Driver")
