"""What the walk stands on: a network, a volume type's worth of volumes, names of what is there."""

from __future__ import annotations

from typing import Any

from tests.live.judges.walk.talk import Talk, waited


class Ground:
    """Ids of what the parts of the walk share."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        images = talk.quietly("image", "GET", "/v2/images")["images"]
        self.image: str = images[0]["id"]
        flavors = talk.quietly("compute", "GET", "/flavors/detail")["flavors"]
        self.flavor: str = min(flavors, key=lambda row: row["ram"])["id"]
        services = talk.quietly("compute", "GET", "/os-services?binary=nova-compute")["services"]
        self.hosts: list[str] = sorted(row["host"] for row in services)
        self.bigger: str = self._flavor("walk-bigger", ram=256, vcpus=2, disk=1)
        public = talk.quietly("network", "GET", "/v2.0/networks?router:external=True")["networks"]
        self.public: dict[str, Any] = public[0]
        self.network: str = self.make_network()

    def _flavor(self, name: str, **size: int) -> str:
        body = {"flavor": {"name": name, **size}}
        return str(self.talk.quietly("compute", "POST", "/flavors", body)["flavor"]["id"])

    def make_network(self) -> str:
        """A network with a subnet, behind a router to the public one."""
        ask = self.talk.quietly
        made = ask("network", "POST", "/v2.0/networks", {"network": {"name": "walk"}})["network"]
        subnet = {"network_id": made["id"], "cidr": "10.77.0.0/24", "ip_version": 4}
        within = ask("network", "POST", "/v2.0/subnets", {"subnet": subnet})["subnet"]
        outside = {"external_gateway_info": {"network_id": self.public["id"]}, "name": "walk"}
        router = ask("network", "POST", "/v2.0/routers", {"router": outside})["router"]
        path = f"/v2.0/routers/{router['id']}/add_router_interface"
        ask("network", "PUT", path, {"subnet_id": within["id"]})
        return str(made["id"])

    def server(self, name: str, *, at: int = 1, **more: Any) -> str:
        """A new server that is ACTIVE; its id."""
        body = {
            "name": name,
            "flavorRef": self.flavor,
            "imageRef": self.image,
            "networks": [{"uuid": self.network}],
            **more,
        }
        made = self.talk.ask("POST", "/servers", {"server": body}, at=at, want=202)
        server = str(made["server"]["id"])
        self.talk.until(server, "ACTIVE")
        return server

    def drop(self, server: str) -> None:
        """Delete a server for good, without the time to think that this cloud gives its users."""
        self.talk.act(server, "forceDelete", at=104, want=202)

    def host_of(self, server: str) -> str:
        """The host a server is on."""
        shown = self.talk.quietly("compute", "GET", f"/servers/{server}")["server"]
        return str(shown["OS-EXT-SRV-ATTR:host"])

    def other_host(self, server: str) -> str:
        """A host that a server is not on."""
        return next(host for host in self.hosts if host != self.host_of(server))

    def image_rests(self, image: str) -> None:
        """Wait until an image is there with its data."""

        def look() -> bool:
            row = self.talk.quietly("image", "GET", f"/v2/images/{image}")
            return bool(row["status"] == "active")

        waited(look, f"image {image} to be active")

    def volume(self, name: str, **more: Any) -> str:
        """A new volume of 1 GiB that can be had; its id."""
        body = {"volume": {"size": 1, "name": name, **more}}
        made = self.talk.quietly("block-storage", "POST", "/volumes", body)["volume"]
        self.rests(made["id"])
        return str(made["id"])

    def rests(self, volume: str, *states: str, kind: str = "volume") -> None:
        """Wait until a volume (or snapshot) is ``available`` (or in one of the states)."""
        wanted = states or ("available",)

        def look() -> bool:
            path = f"/{kind}s/{volume}"
            row = self.talk.quietly("block-storage", "GET", path)[kind]
            return row["status"] in wanted

        waited(look, f"{kind} {volume} to be {wanted}")
