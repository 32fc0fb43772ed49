"""Which server asks through a load balancer's metadata provider, as Neutron's ports tell."""

from __future__ import annotations

from kilonova.base.errors import BadRequest
from kilonova.clients.keystone import Endpoint, expect

_NETWORKS_AT_ONCE = 50


class MetadataProviders:
    """Looks providers up in the network service; implements ``metadata.service.Providers``."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def instance(self, provider_id: str, address: str) -> tuple[str, str]:
        """(server, project) of the one port with that address on the provider's networks.

        BadRequest when there is no such network, or no or more than one port.
        """
        answer = await self._endpoint.request(
            "GET",
            "/v2.0/subnets",
            params={"advanced_service_providers": provider_id, "fields": "network_id"},
        )
        subnets = expect(answer, 200, what="Subnets of a metadata provider")["subnets"]
        networks = list(dict.fromkeys(subnet["network_id"] for subnet in subnets))
        if not networks:
            raise BadRequest(f"Could not find any subnets for provider {provider_id}")
        ports: list[dict[str, str]] = []
        for first in range(0, len(networks), _NETWORKS_AT_ONCE):
            part = networks[first : first + _NETWORKS_AT_ONCE]
            answer = await self._endpoint.request(
                "GET",
                "/v2.0/ports?" + "&".join(f"network_id={network}" for network in part),
                params={"fixed_ips": f"ip_address={address}"},
            )
            ports += expect(answer, 200, what="Ports of a metadata provider")["ports"]
        if len(ports) != 1:
            raise BadRequest(
                f"Expected a single port matching provider {provider_id} and IP {address}. "
                f"Found {len(ports)}."
            )
        return ports[0]["device_id"], ports[0].get("project_id") or ports[0]["tenant_id"]
