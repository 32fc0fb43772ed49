"""The judges' suites: what each runs, and what it must be told about the cloud."""

from __future__ import annotations

import configparser
import json
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tests.support.namespace import Failed, environment
from tests.support.running import ROOT, Running

HERE = Path(__file__).parent
JUDGE = ROOT / ".venv-judge/bin/python"
LISTS = HERE / "lists"
IMAGES = ("cirros-0.6.3-x86_64-disk", "cirros-0.6.3-x86_64-uec")
FLAVORS = ("m1.tiny", "m1.small")
WAIT = 60
"""Seconds a suite waits for a state of a server."""
GUEST_WAIT = 180
"""The same where guests boot on emulated processors."""
FAKE_HOSTS = ("--driver", "fake", "--hosts", "3")
REAL_GUESTS = ("--driver", "qemu")
GUEST_IMAGES = ("tiny", "tiny-too")
GUEST_FLAVORS = ("m1.nano", "m1.micro")
SHARED_TYPE = "shared"


class Outcome(msgspec.Struct, frozen=True):
    """What became of one test."""

    id: str
    outcome: str
    why: str
    seconds: float

    @property
    def last(self) -> str:
        """The last line of why; for Tempest, what the cloud said."""
        lines = [line.strip() for line in self.why.splitlines() if line.strip()]
        return (lines or [""])[-1].removeprefix("Details: ")[:200]


def furnish(cloud: Running, where: Path) -> None:
    """What suites expect: two images that everybody sees, no flavor too small."""
    disk = where / "disk.qcow2"
    making = ["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "16M"]
    subprocess.run(making, check=True, timeout=20)
    shell = cloud.shell("kilonova-admin")
    # The suites know the flavors of devstack; the least of ours is smaller than any of those.
    shell.do("flavor", "delete", "m1.nano")
    for name in IMAGES:
        words = ("--public", "--disk-format", "qcow2", "--container-format", "bare")
        agent = ("--property", "hw_qemu_guest_agent=yes")
        shell.do("image", "create", name, *words, *agent, "--file", disk)


def furnish_used(cloud: Running, where: Path) -> None:
    """The same, with a server of the administrator's: one client wants usages to look at."""
    furnish(cloud, where)
    words = ("--flavor", FLAVORS[0], "--image", IMAGES[0], "--nic", "none", "--wait", "kept")
    shell = cloud.shell("kilonova-admin")
    shell.do("--os-compute-api-version", "2.104", "server", "create", *words)


def furnish_network(cloud: Running, where: Path) -> None:
    """The same, with a network for everybody that no router joins to the world."""
    furnish(cloud, where)
    shell = cloud.shell("kilonova-admin")
    shell.do("network", "create", "--share", "private")
    within = ("--network", "private", "--subnet-range", "10.99.0.0/20")
    shell.do("subnet", "create", *within, "private-subnet")


def furnish_guests(cloud: Running, where: Path) -> None:
    """A second image and size for guests that really boot; volumes that several may have."""
    shell = cloud.shell("kilonova-admin")
    shell.do("image", "save", GUEST_IMAGES[0], "--file", where / "guest.qcow2")
    words = ("--public", "--disk-format", "qcow2", "--container-format", "bare")
    shell.do("image", "create", GUEST_IMAGES[1], *words, "--file", where / "guest.qcow2")
    size = ("--ram", "224", "--disk", "1", "--vcpus", "1")
    shell.do("flavor", "create", GUEST_FLAVORS[1], *size)
    shell.do("volume", "type", "create", SHARED_TYPE, "--property", "multiattach=<is> True")


class Suite(msgspec.Struct, frozen=True):
    """A judge: the packages its tests are in, and how its environment is made."""

    name: str
    packages: tuple[str, ...]
    prepare: Callable[[Running, Path], dict[str, str]]
    up: Sequence[str] = FAKE_HOSTS
    furnish: Callable[[Running, Path], None] = furnish
    tag: str = ""
    """Only tests whose ids end with it among others in brackets; "" for all."""

    def start(self, cloud: Running, where: Path) -> None:
        """Start the suite's cloud, and put what it expects there."""
        cloud.up(*self.up)
        self.furnish(cloud, where)

    @property
    def file(self) -> Path:
        """The ids of what passes; it only grows."""
        return LISTS / f"{self.name}.txt"

    @property
    def reasons(self) -> Path:
        """What fails, each with the last words of its failure."""
        return LISTS / f"{self.name}-failing.txt"

    def listed(self) -> list[str]:
        """What passed so far."""
        return self.file.read_text().split() if self.file.exists() else []

    def keep(self, passed: Iterable[str], failed: Mapping[str, str]) -> None:
        """Add what passed to the list; beside it, why the rest of ``failed`` did."""
        names = {*self.listed(), *passed}
        self.file.write_text("".join(f"{name}\n" for name in sorted(names)))
        rows = (f"{name}\t{why}\n" for name, why in sorted(failed.items()) if name not in names)
        self.reasons.write_text("".join(rows))


def _clouds(cloud: Running) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((cloud.state_dir / "clouds.yaml").read_text())["clouds"]
    for entry in read.values():
        for kind in ("user", "project"):
            if entry["auth"].pop(f"{kind}_domain_name", None):
                entry["auth"][f"{kind}_domain_id"] = "default"
    return read


def _client_env(cloud: Running, where: Path) -> dict[str, str]:
    """The clouds under the names that the clients' suites ask for."""
    ours = _clouds(cloud)
    member, admin = ours["kilonova"], ours["kilonova-admin"]
    system = json.loads(json.dumps(admin))
    system["auth"] = {
        key: value for key, value in admin["auth"].items() if not key.startswith("project")
    } | {"system_scope": "all"}
    named = {
        "devstack": member,
        "devstack-alt": member,
        "devstack-admin": admin,
        "functional_admin": admin,
        "devstack-system-admin": system,
    }
    (where / "clouds.yaml").write_text(yaml.safe_dump({"clouds": named}))
    return {
        "HOME": str(where),
        "OS_CLIENT_CONFIG_FILE": str(where / "clouds.yaml"),
        "OS_CLOUD": "devstack-admin",
        "OS_LOG_CAPTURE": "False",
        "OS_TEST_TIMEOUT": str(2 * WAIT),
        "OPENSTACKSDK_FUNC_TEST_TIMEOUT": str(WAIT),
        "TOX_ENV_DIR": str(JUDGE.parents[1]),
        "PATH": f"{JUDGE.parent}:{environment()['PATH']}",
    }


Sections = dict[str, dict[str, object]]


def _tempest_env(cloud: Running, where: Path) -> dict[str, str]:
    """Tempest's own configuration for a cloud without guests that answer."""
    return _tempest(cloud, where, _sections(cloud, where, IMAGES, FLAVORS, WAIT))


def _guests_env(cloud: Running, where: Path) -> dict[str, str]:
    """The same for a cloud whose guests are logged in to, through floating IPs."""
    sections = _sections(cloud, where, GUEST_IMAGES, GUEST_FLAVORS, GUEST_WAIT)
    networks = cloud.shell("kilonova-admin").json("network", "list", "--external")
    sections["network"]["public_network_id"] = networks[0]["ID"]
    sections["compute"]["min_compute_nodes"] = 1
    sections["compute-feature-enabled"] |= {
        **dict.fromkeys(("metadata_service", "hostname_fqdn_sanitization"), "true"),
        "volume_multiattach": "true",
        # One machine is one host, and its guests let nobody in by password.
        **dict.fromkeys(("live_migration", "shelve_migrate", "change_password"), "false"),
        "attach_encrypted_volume": "false",
    }
    sections["validation"] = {
        "run_validation": "true",
        "connect_method": "floating",
        "image_ssh_user": "root",
        "image_alt_ssh_user": "root",
        "ssh_timeout": GUEST_WAIT,
        "connect_timeout": 10,
        "ping_timeout": GUEST_WAIT,
    }
    sections["service_available"]["horizon"] = "false"
    sections["volume-feature-enabled"] = {"backup": "false"}
    sections["volume"] |= {
        "volume_type_multiattach": SHARED_TYPE,
        "min_microversion": "3.0",
        "max_microversion": "latest",
    }
    image = cloud.state_dir / f"{GUEST_IMAGES[0]}.qcow2"
    sections["scenario"] = {"dhcp_client": "udhcpc", "img_file": image}
    return _tempest(cloud, where, sections)


def _tempest(cloud: Running, where: Path, sections: Sections) -> dict[str, str]:
    config = configparser.ConfigParser(interpolation=None)
    config.read_dict(sections)
    with (where / "tempest.conf").open("w") as file:
        config.write(file)
    return {"TEMPEST_CONFIG_DIR": str(where), "TEMPEST_CONFIG": "tempest.conf", "HOME": str(where)}


def _sections(
    cloud: Running, where: Path, image: tuple[str, str], flavor: tuple[str, str], wait: int
) -> Sections:
    shell = cloud.shell("kilonova-admin")
    admin = _clouds(cloud)["kilonova-admin"]["auth"]
    images = {row["Name"]: row["ID"] for row in shell.json("image", "list")}
    flavors = {row["Name"]: row["ID"] for row in shell.json("flavor", "list")}
    extensions = [row["Alias"] for row in shell.json("extension", "list", "--network")]
    services = {row["Type"] for row in shell.json("catalog", "list")}
    return {
        "DEFAULT": {"log_dir": where, "log_file": "tempest.log"},
        "oslo_concurrency": {"lock_path": where / "locks"},
        "auth": {
            "admin_username": admin["username"],
            "admin_password": admin["password"],
            "admin_project_name": admin["project_name"],
            "admin_domain_name": "Default",
            "use_dynamic_credentials": "true",
            "create_isolated_networks": "true",
            "tempest_roles": "member",
        },
        "identity": {"uri_v3": admin["auth_url"], "auth_version": "v3", "region": "RegionOne"},
        "identity-feature-enabled": {"api_v2": "false"},
        "service_available": {
            "swift": "false",
            "cinder": str("block-storage" in services or "volumev3" in services).lower(),
        },
        "compute": {
            "image_ref": images[image[0]],
            "image_ref_alt": images[image[1]],
            "flavor_ref": flavors[flavor[0]],
            "flavor_ref_alt": flavors[flavor[1]],
            "min_compute_nodes": 3,
            "min_microversion": "2.1",
            "max_microversion": "latest",
            "build_timeout": wait,
            "build_interval": 1,
            "ready_wait": 0,
        },
        "network": {"project_network_cidr": "10.100.0.0/16", "floating_network_name": "public"},
        "network-feature-enabled": {"ipv6": "false", "api_extensions": ",".join(extensions)},
        "compute-feature-enabled": {
            **dict.fromkeys(("shelve", "snapshot", "rescue", "stable_rescue", "resize"), "true"),
            **dict.fromkeys(("live_migration", "cold_migration", "shelve_migrate"), "true"),
            **dict.fromkeys(("pause", "suspend", "config_drive", "interface_attach"), "true"),
            **dict.fromkeys(("block_migration_for_live_migration", "swap_volume"), "true"),
            **dict.fromkeys(("volume_backed_live_migration", "personality"), "true"),
            "change_password": "true",
            **dict.fromkeys(("vnc_console", "metadata_service"), "false"),
        },
        "validation": {"run_validation": "false"},
        "image": {"build_timeout": wait, "image_path": "", "http_image": ""},
        "volume": {"build_timeout": wait, "storage_protocol": "fake"},
        "enforce_scope": {"nova": "true"},
    }


SUITES = (
    Suite(
        "openstacksdk",
        (
            "openstack.tests.functional.compute",
            "openstack.tests.functional.placement",
            "openstack.tests.functional.cloud.test_compute",
            "openstack.tests.functional.cloud.test_inventory",
            "openstack.tests.functional.cloud.test_meta",
        ),
        _client_env,
        furnish=furnish_used,
    ),
    Suite("novaclient", ("novaclient.tests.functional",), _client_env, furnish=furnish_network),
    Suite(
        "openstackclient",
        ("openstackclient.tests.functional.compute",),
        _client_env,
        furnish=furnish_network,
    ),
    Suite("tempest", ("tempest.api.compute",), _tempest_env),
    Suite(
        "smoke",
        (
            "tempest.api.identity",
            "tempest.api.image",
            "tempest.api.network",
            "tempest.api.volume",
        ),
        _tempest_env,
        tag="smoke",
    ),
    Suite(
        "guests",
        (
            "tempest.api.compute.servers",
            "tempest.api.compute.volumes",
            "tempest.api.compute.flavors",
            "tempest.api.compute.security_groups",
            "tempest.api.compute.test_versions",
            "tempest.api.compute.admin.test_create_server",
            "tempest.scenario",
        ),
        _guests_env,
        up=REAL_GUESTS,
        furnish=furnish_guests,
    ),
)


def run(
    cloud: Running,
    suite: Suite,
    where: Path,
    *,
    ids: list[str] | None,
    seconds: float,
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Run a suite's tests (all of them without ``ids``) against a cloud; Failed when it hangs.

    ``where`` is an empty directory that the suite may use; ``tell`` hears each outcome at once.
    """
    env = suite.prepare(cloud, where)
    words: list[str | Path] = [JUDGE, HERE / "listed.py", *suite.packages]
    if suite.tag:
        words += ["--tag", suite.tag]
    if ids is not None:
        (where / "ids").write_text("\n".join(ids))
        words += ["--ids", where / "ids"]
    with (where / "errors").open("w") as errors:
        process = subprocess.Popen(
            ["timeout", str(seconds), *cloud.space.inside(words)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=where,
            env={**environment(), **env},
        )
        assert process.stdout is not None
        outcomes = list(_rows(process.stdout, tell))
        process.stdout.close()
        code = process.wait()
    if code:
        said = (where / "errors").read_text()[-2000:]
        raise Failed(f"{suite.name} ended with {code} after {len(outcomes)} tests:\n{said}")
    return outcomes


def _rows(lines: Iterable[str], tell: Callable[[Outcome], None]) -> Iterator[Outcome]:
    for line in lines:
        outcome = msgspec.json.decode(line, type=Outcome)
        tell(outcome)
        yield outcome


def judged_here() -> list[Suite]:
    """The suites of every run; the others take too long for that."""
    return [suite for suite in SUITES if suite.name == "openstacksdk"]


def by_name() -> Mapping[str, Suite]:
    """All suites."""
    return {suite.name: suite for suite in SUITES}
