"""cloud-init's own readers on a real guest's metadata: of the service, and of its config drive."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pycdlib
import pytest

from tests.live.judges.suites import JUDGE
from tests.support.namespace import environment
from tests.support.running import Running, Shell

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]

SCRIPT = Path(__file__).with_name("readers.py")
PACKAGES = ("cloud-init", "python3-configobj")
USER_DATA = b"#cloud-config\nruncmd: [echo here]\n\xc3\xa9"
THINGS = (
    ("server", "delete", "judged", "--wait"),
    ("keypair", "delete", "judged"),
    ("volume", "delete", "judged"),
    ("network", "delete", "judged"),
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What makes the judges' interpreter find cloud-init, unpacked from its package."""
    if not JUDGE.exists():
        pytest.skip("no judges in .venv-judge: run scripts/setup")
    home = tmp_path_factory.mktemp("cloud-init")
    done = subprocess.run(
        ["apt-get", "download", "-qq", *PACKAGES],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no package of cloud-init: {done.stderr[-200:]}")
    for package in home.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, home / "root"], check=True, timeout=60)
    path = home / "root/usr/lib/python3/dist-packages"
    return {**environment(), "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def user(cloud: Running) -> Shell:
    return cloud.shell()


@pytest.fixture(scope="module")
def server(cloud: Running, user: Shell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One with everything metadata can show, a tagged card and a tagged volume among it."""
    home = tmp_path_factory.mktemp("judged")
    (home / "user-data").write_bytes(USER_DATA)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / "key"], check=True, timeout=20
    )
    try:
        network = user.json("network", "create", "judged")["id"]
        user.do(
            *("subnet", "create", "judged", "--network", "judged"),
            *("--subnet-range", "10.30.0.0/24"),
        )
        user.do("keypair", "create", "judged", "--public-key", home / "key.pub")
        volume = user.json("volume", "create", "judged", "--size", "1")["id"]
        made = user.json(
            *("--os-compute-api-version", "2.90", "server", "create", "judged"),
            *("--hostname", "Judged-1", "--image", "tiny", "--flavor", "m1.nano", "--wait"),
            *("--nic", f"net-id={network},tag=front", "--key-name", "judged"),
            *(
                "--block-device",
                f"uuid={volume},source_type=volume,destination_type=volume,tag=data",
            ),
            *("--user-data", home / "user-data", "--use-config-drive", "--property", "role=é"),
        )
        yield made
    finally:
        for words in THINGS:
            user.run(*words)


def _unpacked(drive: Path, into: Path) -> Path:
    iso = pycdlib.PyCdlib()
    iso.open(str(drive))
    try:
        assert iso.pvd.volume_identifier.decode().strip() == "config-2"
        for folder, _, names in iso.walk(rr_path="/"):
            for name in names:
                path = f"{folder.rstrip('/')}/{name}"
                target = into / path.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                iso.get_file_from_iso(str(target), rr_path=path)
    finally:
        iso.close()
    return into


def _read(cloud: Running, reader: dict[str, str], text: str, *words: str | Path) -> Any:
    done = cloud.space.run(JUDGE, SCRIPT, *words, env=reader, text=text)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=["service", "drive"])
def read(
    request: pytest.FixtureRequest,
    cloud: Running,
    reader: dict[str, str],
    server: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """What cloud-init understood, from either place."""
    if request.param == "drive":
        drive = cloud.state_dir / "instances" / server["id"] / "disk.config"
        where = _unpacked(drive, tmp_path_factory.mktemp("drive"))
        found = _read(cloud, reader, "", where)
        for version in (*found["versions"], "latest"):
            assert (where / "openstack" / version / "meta_data.json").exists()
        assert (where / "ec2/2009-04-04/meta-data.json").exists()
        return found
    address = next(iter(server["addresses"].values()))[0]
    words = (cloud.url("metadata"), server["id"], server["project_id"], address)
    return _read(cloud, reader, cloud.secrets().metadata_secret + "\n", *words)


def test_who_it_is(user: Shell, server: Any, read: Any) -> None:
    said = read["metadata"]
    assert read["version"] == 2
    assert said["uuid"] == said["instance-id"] == server["id"]
    assert said["name"] == "judged"
    assert said["hostname"].split(".")[0] == "Judged-1"
    assert said["project_id"] == server["project_id"]
    assert said["availability_zone"] == "nova"
    assert said["launch_index"] == 0
    assert said["meta"] == {"role": "é"}
    public = user.do("keypair", "show", "judged", "--public-key").strip()
    assert {name: key.strip() for name, key in said["public_keys"].items()} == {"judged": public}
    assert [key["type"] for key in said["keys"]] == ["ssh"]
    assert len(base64.b64decode(said["random_seed"])) == 512
    assert base64.b64decode(read["userdata"]) == USER_DATA
    assert read["vendordata"] == {}
    assert read["vendordata2"] == {"static": {}}


def test_its_network_and_devices(user: Shell, server: Any, read: Any) -> None:
    port = user.json("port", "list", "--server", server["id"])[0]
    cards = [row for row in read["made"] if row["type"] == "physical"]
    assert [card["mac_address"] for card in cards] == [port["MAC Address"]]
    assert user.json("port", "show", port["ID"])["dns_name"] == "Judged-1"
    volume = user.json("volume", "show", "judged")["id"]
    devices = {device["tags"][0]: device for device in read["metadata"]["devices"]}
    assert devices["front"]["mac"] == port["MAC Address"]
    assert devices["front"]["type"] == "nic"
    assert devices["data"]["serial"] == volume
    assert devices["data"]["type"] == "disk"


def test_as_on_amazons_cloud(server: Any, read: Any) -> None:
    assert {"2009-04-04", "latest"} <= set(read["ec2"])
    addresses = next(iter(server["addresses"].values()))
    for tree in read["ec2"].values():
        assert tree["instance-id"].startswith("i-")
        assert tree["local-ipv4"] in addresses
        assert tree["hostname"].split(".")[0] == "Judged-1"
        assert tree["public-keys"]
