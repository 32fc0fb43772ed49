"""Projects keep to themselves, images cannot reach into the host, guests cannot pretend."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
from pathlib import Path

import pytest

from kilonova.embedded.image.tables import IMAGE
from tests.live.e2e.guests import Login
from tests.support.namespace import Failed
from tests.support.running import Running, Shell, until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]

FOREIGN_ADDRESS = "10.30.0.250"
FOREIGN_MAC = "02:00:00:00:00:99"


@pytest.fixture(scope="module")
def user(cloud: Running) -> Shell:
    return cloud.shell("kilonova")


@pytest.fixture(scope="module")
def stranger(cloud: Running, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """An ordinary member of another project."""
    admin = cloud.shell("kilonova-admin")
    admin.do("project", "create", "second")
    admin.do("user", "create", "stranger", "--project", "second", "--password", "strange-word")
    admin.do("role", "add", "--user", "stranger", "--project", "second", "member")
    auth = {"username": "stranger", "password": "strange-word", "project_name": "second"}
    file = tmp_path_factory.mktemp("stranger") / "clouds.yaml"
    return cloud.shell("stranger", cloud.spoiled({"stranger": {"auth": auth}}, file))


class Pair:
    """Two guests on one network; the second answers pings of anyone who is who he says."""

    def __init__(self, ids: list[str], sender: Login, receiver: Login) -> None:
        self.ids = ids
        self.sender = sender
        self.receiver = receiver
        self.address = receiver.run("ip -4 -o addr show eth0").split()[3].split("/")[0]

    def echoes(self) -> int:
        """How many pings have arrived at the second guest so far."""
        lines = self.receiver.run("grep ^Icmp: /proc/net/snmp").splitlines()
        names, values = (line.split() for line in lines)
        return int(dict(zip(names, values, strict=True))["InEchos"])

    def ping(self, source: str = "") -> str:
        """The command that pings the second guest three times."""
        return f"ping -c 3 -i 0.3 -W 1 {f'-I {source}' if source else ''} {self.address}"


@pytest.fixture(scope="module")
def pair(cloud: Running, user: Shell, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    key = tmp_path_factory.mktemp("pair") / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=20
    )
    user.do("keypair", "create", "pair", "--public-key", f"{key}.pub")
    user.do("network", "create", "pair")
    user.do("subnet", "create", "pair", "--network", "pair", "--subnet-range", "10.30.0.0/24")
    user.do("router", "create", "pair", "--external-gateway", "public")
    user.do("router", "add", "subnet", "pair", "pair")
    user.do("security", "group", "create", "open")
    for protocol in ("tcp", "udp", "icmp"):
        user.do("security", "group", "rule", "create", "open", "--protocol", protocol)
    user.do(
        *("server", "create", "pair", "--flavor", "m1.nano", "--image", "tiny", "--network"),
        *("pair", "--security-group", "open", "--key-name", "pair", "--min", "2", "--max", "2"),
        "--wait",
    )
    rows = sorted(user.json("server", "list"), key=lambda row: str(row["Name"]))
    assert [row["Status"] for row in rows] == ["ACTIVE", "ACTIVE"]
    logins = []
    for row in rows:
        floating = user.json("floating", "ip", "create", "public")["floating_ip_address"]
        user.do("server", "add", "floating", "ip", row["ID"], floating)
        logins.append(Login(cloud, key, floating))
    for login in logins:
        login.wait()
    return Pair([str(row["ID"]) for row in rows], *logins)


def test_second_project_sees_nothing(
    user: Shell, stranger: Shell, pair: Pair, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.write_bytes(bytes(1 << 20))
    private = user.json("image", "create", "private", "--disk-format", "raw", "--file", data)["id"]
    for words in (
        ("server", "list"),
        ("keypair", "list"),
        ("router", "list"),
        ("port", "list"),
        ("floating", "ip", "list"),
        ("subnet", "list"),
    ):
        assert user.json(*words), words
        seen = [row for row in stranger.json(*words) if row.get("Name") != "public-subnet"]
        assert seen == [], words
    assert [row["Name"] for row in stranger.json("image", "list")] == ["tiny"]
    assert [row["Name"] for row in stranger.json("network", "list")] == ["public"]
    assert [row["Name"] for row in stranger.json("security", "group", "list")] == ["default"]
    port = user.json("port", "list", "--server", pair.ids[0])[0]["ID"]
    known = {
        "server": pair.ids[0],
        "image": private,
        "network": user.json("network", "show", "pair")["id"],
        "subnet": user.json("subnet", "show", "pair")["id"],
        "router": user.json("router", "show", "pair")["id"],
        "port": port,
        "security group": user.json("security", "group", "show", "open")["id"],
    }
    for kind, identifier in known.items():
        for verb in ("show", "delete"):
            said = stranger.refused(*kind.split(), verb, identifier)
            assert "403" not in said, said
    stranger.refused("server", "stop", pair.ids[0])
    stranger.refused("server", "reboot", pair.ids[0])
    stranger.refused("console", "log", "show", pair.ids[0])
    stranger.refused("server", "list", "--all-projects")
    assert [row["Status"] for row in user.json("server", "list")] == ["ACTIVE", "ACTIVE"]
    user.do("image", "delete", private)


def test_guests_cannot_pretend(pair: Pair) -> None:
    before = pair.echoes()
    pair.sender.run(pair.ping())
    assert pair.echoes() >= before + 3
    before = pair.echoes()
    pair.sender.run(
        f"ip addr add {FOREIGN_ADDRESS}/24 dev eth0; {pair.ping(FOREIGN_ADDRESS)}; "
        f"ip addr del {FOREIGN_ADDRESS}/24 dev eth0; true"
    )
    assert pair.echoes() == before
    neighbour, own = pair.receiver.mac(), pair.sender.mac()
    pair.sender.run(
        f"arp -s {pair.address} {neighbour}; (sleep 1; ip link set eth0 address {FOREIGN_MAC} && "
        f"touch /tmp/pretended; {pair.ping()}; ip link set eth0 address {own}; touch /tmp/done) "
        ">/dev/null 2>&1 </dev/null &"
    )
    until(lambda: pair.sender.run("ls /tmp/done /tmp/pretended", check=False), 30, "the sender")
    assert pair.sender.mac() == own
    assert pair.echoes() == before
    pair.sender.run(pair.ping())
    assert pair.echoes() >= before + 3


def evil(kind: str, folder: Path) -> tuple[Path, str]:
    """An image file that refers to another file of the host, and its format."""
    file = folder / f"{kind}.img"
    if kind == "vmdk extent":
        flat = "monolithicFlat"
        make(*("-f", "vmdk", "-o", f"subformat={flat}"), str(file), "1M")
        return file, "vmdk"
    if kind == "data file":
        make(*("-f", "qcow2", "-o", f"data_file={folder}/data,data_file_raw=on"), str(file), "1M")
    else:
        make(*("-f", "qcow2", "-b", "/etc/passwd", "-F", "raw"), str(file), "1M")
    return file, "qcow2"


def make(*words: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", *words], check=True, timeout=20)


@pytest.mark.parametrize("kind", ["backing file", "data file", "vmdk extent"])
def test_image_that_refers_to_files_is_refused(
    cloud: Running, user: Shell, tmp_path: Path, kind: str
) -> None:
    file, disk_format = evil(kind, tmp_path)
    said = user.refused(
        *("image", "create", "evil", "--disk-format", disk_format, "--file", file),
        *("--container-format", "bare"),
    )
    assert "Traceback" not in said
    for row in user.json("image", "list", "--name", "evil"):
        assert row["Status"] != "active"
        user.do("image", "delete", row["ID"])
    smuggled = smuggle(cloud, user, file, disk_format)
    user.do(
        *("server", "create", "victim", "--flavor", "m1.nano", "--image", smuggled),
        *("--nic", "none"),
    )

    def status() -> str:
        return str(user.json("server", "show", "victim")["status"])

    until(lambda: status() == "ERROR", 60, "the server to fail")
    fault = json.dumps(user.json("server", "show", "victim")["fault"])
    assert "not safe" in fault or "cannot be understood" in fault or "not allowed" in fault, fault
    user.do("server", "delete", "victim", "--wait")
    user.do("image", "delete", smuggled)
    assert not list((cloud.state_dir / "instances/_base").glob(f"{smuggled}*img"))


def smuggle(cloud: Running, user: Shell, file: Path, disk_format: str) -> str:
    """Put a file past the image service's checks, as if it had none."""
    harmless = file.with_suffix(".good")
    make("-f", disk_format, str(harmless), "1M")
    image = user.json(
        *("image", "create", "smuggled", "--disk-format", disk_format, "--file", harmless),
        *("--container-format", "bare"),
    )["id"]
    content = file.read_bytes()
    places = [each for each in (cloud.state_dir / "images").rglob("*") if image in each.name]
    if len(places) != 1:
        raise Failed(f"where is the image kept? {places}")
    places[0].chmod(0o600)
    places[0].write_bytes(content)
    with sqlite3.connect(cloud.state_dir / "image.db", timeout=20) as db:
        db.execute(
            f"UPDATE {IMAGE.name} SET size = ?, checksum = ?, os_hash_value = ? WHERE id = ?",
            (
                len(content),
                hashlib.md5(content, usedforsecurity=False).hexdigest(),
                hashlib.sha512(content).hexdigest(),
                image,
            ),
        )
    db.close()
    return str(image)


def test_everything_matches_afterwards(cloud: Running, user: Shell, pair: Pair) -> None:
    user.do("server", "delete", *pair.ids, "--wait")

    def audit() -> bool:
        done = cloud.kilonova("audit", "--state-dir", cloud.state_dir, "--json")
        return json.loads(done.stdout)["findings"] == []

    assert audit()
