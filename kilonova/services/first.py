"""The first server of a cloud: made through the APIs as any user would, watched until it is up."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kilonova.services import guests
from kilonova.services import layout as layouts
from kilonova.services.demo import IMAGE, PUBLIC
from kilonova.services.lifecycle import CannotStart
from kilonova.services.progress import Tell
from kilonova.web.client import Answer, HttpClient

NAME = "first"
KEYPAIR = "demo"
FLAVOR = "m1.nano"
KEY_FILE = "demo_key"
ACTIVE_SECONDS = 120
LOGIN_SECONDS = 300
VERSION = "compute 2.96"
SIGN = "guest: "
LOOK = "uname -srm; hostname"
TASKS = {
    "scheduling": "scheduling: which host takes it",
    "networking": "networking: port, address, binding",
    "spawning": "spawning: disk and machine",
}
EVENTS = {
    "conductor_wanted_cards": TASKS["networking"],
    "compute_spawn": TASKS["spawning"],
    "compute__do_build_and_run_instance": TASKS["spawning"],
}
RULES: tuple[dict[str, Any], ...] = (
    {"protocol": "icmp"},
    {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22},
)


class Door(msgspec.Struct, frozen=True):
    """How to log in: ``said`` is what the guest answered; no ``address`` for simulated guests."""

    server_id: str
    address: str = ""
    port: int = 22
    key: Path | None = None
    said: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """The ``ssh`` command line."""
        port = ["-p", str(self.port)] if self.port != 22 else []
        return ["ssh", "-i", str(self.key), *port, f"root@{self.address}"]


async def make(layout: layouts.Layout, tell: Tell, *, simulated: bool) -> Door:
    """Make the server ``first`` of the project demo, or find it; wait until it lets us in.

    ``simulated`` guests (driver fake) are ACTIVE and no more. Raises CannotStart with one sentence.
    """
    async with HttpClient() as http:
        user = await User.login(layout, http)
        tell.step("key pair and security group")
        key = layout.state_dir / KEY_FILE
        await _keypair(user, key)
        await _rules(user)
        server = await _server(user, tell)
        if simulated:
            return Door(server["id"])
        tell.step("an address to reach it by")
        door = await _door(layout, user, server, key)
        return await _enter(user, door, tell)


class User:
    """Requests as the user demo of the project demo."""

    def __init__(self, layout: layouts.Layout, http: HttpClient, token: str, project: str) -> None:
        self.project = project
        self._layout = layout
        self._http = http
        self._token = token

    @classmethod
    async def login(cls, layout: layouts.Layout, http: HttpClient) -> User:
        """Take a token by the password the cloud was made with."""
        domain = {"name": "Default"}
        password = layouts.read_secrets(layout.state_dir).demo_password
        who = {"name": "demo", "password": password, "domain": domain}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": who}},
                "scope": {"project": {"name": "demo", "domain": domain}},
            }
        }
        answer = await http.request("POST", layout.url("identity", "/v3/auth/tokens"), json=body)
        if answer.status != 201:
            raise CannotStart(
                "The identity service refuses the user demo; its password was changed. "
                "Make a server with your own credentials."
            )
        project = answer.json()["token"]["project"]["id"]
        return cls(layout, http, answer.headers["x-subject-token"], project)

    async def ask(
        self, method: str, service: str, path: str, *, json: Any = None, also: tuple[int, ...] = ()
    ) -> Answer:
        """One request; CannotStart for an error status that is not among ``also``."""
        answer = await self._http.request(
            method,
            self._layout.url(service, path),
            json=json,
            headers={"X-Auth-Token": self._token, "OpenStack-API-Version": VERSION},
            timeout=60,
        )
        if not answer.ok and answer.status not in also:
            raise CannotStart(f"{method} {path} answered {answer.status}: {answer.text[:300]}")
        return answer

    async def get(self, service: str, path: str) -> Any:
        """The JSON of a GET."""
        return (await self.ask("GET", service, path)).json()


async def _keypair(user: User, file: Path) -> None:
    public = await asyncio.to_thread(_key, file)
    found = await user.ask("GET", "compute", f"/v2.1/os-keypairs/{KEYPAIR}", also=(404,))
    if found.ok:
        if found.json()["keypair"]["public_key"].split()[:2] == public.split()[:2]:
            return
        await user.ask("DELETE", "compute", f"/v2.1/os-keypairs/{KEYPAIR}")
    body = {"keypair": {"name": KEYPAIR, "type": "ssh", "public_key": public}}
    await user.ask("POST", "compute", "/v2.1/os-keypairs", json=body)


def _key(file: Path) -> str:
    """The public key to the private one in ``file``, which is made when it is missing."""
    if file.exists():
        key = serialization.load_ssh_private_key(file.read_bytes(), None)
    else:
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        layouts.write_private(file, private)
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return public.decode()


async def _rules(user: User) -> None:
    """Let ping and SSH in to servers of the group ``default``."""
    path = f"/v2.0/security-groups?name=default&project_id={user.project}"
    group = (await user.get("network", path))["security_groups"][0]["id"]
    for rule in RULES:
        body = {"security_group_id": group, "direction": "ingress", "ethertype": "IPv4", **rule}
        await user.ask(
            "POST",
            "network",
            "/v2.0/security-group-rules",
            json={"security_group_rule": body},
            also=(409,),
        )


async def _server(user: User, tell: Tell) -> dict[str, Any]:
    """The server, ACTIVE; made when there is none, made anew when it is in ERROR."""
    found = (await user.get("compute", f"/v2.1/servers/detail?name=^{NAME}$"))["servers"]
    server: dict[str, Any] | None = found[0] if found else None
    if server is not None and server["status"] == "ERROR":
        tell.step(f"deleting the server {NAME}, which is in ERROR")
        await user.ask("DELETE", "compute", f"/v2.1/servers/{server['id']}", also=(404,))
        while (await user.ask("GET", "compute", f"/v2.1/servers/{server['id']}", also=(404,))).ok:  # noqa: ASYNC110 (another process changes it)
            await asyncio.sleep(0.2)
        server = None
    if server is not None and server["status"] == "ACTIVE":
        tell.step(f"the server {NAME} is there")
        return server
    if server is not None and server["status"] == "SHUTOFF":
        tell.step(f"starting the server {NAME}")
        path = f"/v2.1/servers/{server['id']}/action"
        await user.ask("POST", "compute", path, json={"os-start": None}, also=(409,))
    request = ""
    if server is None:
        tell.step(f"POST /servers: {NAME}")
        answer = await user.ask("POST", "compute", "/v2.1/servers", json=await _body(user))
        server = answer.json()["server"]
        request = answer.headers["x-openstack-request-id"]
    return await _watch(user, server["id"], request, tell)


async def _body(user: User) -> dict[str, Any]:
    images = (await user.get("image", f"/v2/images?name={IMAGE}&status=active"))["images"]
    flavors = (await user.get("compute", "/v2.1/flavors"))["flavors"]
    flavor = next((f["id"] for f in flavors if f["name"] == FLAVOR), None)
    if not images or flavor is None:
        raise CannotStart(
            f"There is no image {IMAGE} or no flavor {FLAVOR}: start the cloud without --no-demo."
        )
    return {
        "server": {
            "name": NAME,
            "imageRef": images[0]["id"],
            "flavorRef": flavor,
            "key_name": KEYPAIR,
            "networks": "auto",
        }
    }


async def _watch(user: User, server_id: str, request: str, tell: Tell) -> dict[str, Any]:
    """Show each task and event of the server as it comes, until it is ACTIVE."""
    end = time.monotonic() + ACTIVE_SECONDS
    told: set[str] = set()
    while True:
        found = await user.get("compute", f"/v2.1/servers/{server_id}")
        server: dict[str, Any] = found["server"]
        task = server.get("OS-EXT-STS:task_state")
        steps = [TASKS.get(task, task)] if task else []
        if request:
            path = f"/v2.1/servers/{server_id}/os-instance-actions/{request}"
            seen = await user.ask("GET", "compute", path, also=(404,))
            action = seen.json()["instanceAction"] if seen.ok else {}
            events = sorted(action.get("events") or [], key=lambda e: str(e["start_time"]))
            steps += [EVENTS.get(e["event"], e["event"]) for e in events]
        for step in steps:
            if step not in told:
                told.add(step)
                tell.step(step)
        if server["status"] == "ACTIVE":
            tell.step("ACTIVE")
            return server
        if server["status"] == "ERROR":
            why = server.get("fault", {}).get("message", "no reason was given")
            raise CannotStart(f"The server {NAME} could not be made: {why}")
        if time.monotonic() > end:
            raise CannotStart(
                f"The server {NAME} was not ACTIVE after {ACTIVE_SECONDS} s; see its events with: "
                f"openstack server event list {NAME}"
            )
        await asyncio.sleep(0.1)


async def _door(layout: layouts.Layout, user: User, server: dict[str, Any], key: Path) -> Door:
    """A forwarded port where there is one, else a floating IP."""
    for guest in await asyncio.to_thread(guests.forwarded, layout.state_dir):
        if guest.server_id == server["id"]:
            return Door(server["id"], "127.0.0.1", guest.port, key)
    if os.geteuid() != 0:
        raise CannotStart(
            f"No port is forwarded to the server {NAME}: its guest does not run. "
            f"See: openstack console log show {NAME}"
        )
    ports = (await user.get("network", f"/v2.0/ports?device_id={server['id']}"))["ports"]
    if not ports:
        raise CannotStart(f"The server {NAME} has no network; delete it and start again.")
    port = ports[0]["id"]
    has = (await user.get("network", f"/v2.0/floatingips?port_id={port}"))["floatingips"]
    if not has:
        nets = (await user.get("network", f"/v2.0/networks?name={PUBLIC}"))["networks"]
        body = {"floatingip": {"floating_network_id": nets[0]["id"], "port_id": port}}
        made = await user.ask("POST", "network", "/v2.0/floatingips", json=body)
        has = [made.json()["floatingip"]]
    return Door(server["id"], has[0]["floating_ip_address"], 22, key)


async def _enter(user: User, door: Door, tell: Tell) -> Door:
    """Show what the guest says on its console until SSH lets us in and it says who it is."""
    end = time.monotonic() + LOGIN_SECONDS
    shown = 0
    tell.step("waiting until SSH answers")
    pause = 0.0
    while True:
        said = await _login(door) if pause <= 0 else None
        if said is not None:
            tell.step("logged in over SSH")
            return msgspec.structs.replace(door, said=said)
        if pause <= 0:
            pause = 2.0
        lines = await _console(user, door.server_id)
        for line in lines[shown:]:
            tell.step(f"guest: {line}")
            if line.startswith(("sshd up", "ready")):
                pause = 0.0
        shown = len(lines)
        if time.monotonic() > end:
            raise CannotStart(
                f"The server {NAME} runs, but SSH did not answer within {LOGIN_SECONDS} s; "
                f"its last words: openstack console log show {NAME}"
            )
        await asyncio.sleep(0.25)
        pause -= 0.25


async def _console(user: User, server_id: str) -> list[str]:
    """What the guest has said of its boot; the image signs those lines."""
    body: dict[str, Any] = {"os-getConsoleOutput": {}}
    path = f"/v2.1/servers/{server_id}/action"
    answer = await user.ask("POST", "compute", path, json=body, also=(404, 409, 503))
    text = answer.json().get("output", "") if answer.ok else ""
    boot = text[text.rfind(f"{SIGN}start") :] if f"{SIGN}start" in text else text
    lines = boot.replace("\r", "").split("\n")[:-1]
    return [line.split(SIGN, 1)[1] for line in lines if SIGN in line]


async def _login(door: Door) -> tuple[str, ...] | None:
    """What the guest says of itself; None when it does not let us in (yet)."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "ConnectTimeout": "3",
        "LogLevel": "ERROR",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    command, *rest = door.command()
    try:
        process = await asyncio.create_subprocess_exec(
            *(command, "-F", "none", *words, *rest, LOOK),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise CannotStart(
            f"The server {NAME} runs; there is no ssh here to log in with: "
            "apt-get install openssh-client"
        ) from None
    try:
        async with asyncio.timeout(15):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return tuple(out.decode("utf-8", "replace").split("\n")[:2]) if not process.returncode else None
