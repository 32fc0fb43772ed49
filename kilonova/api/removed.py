"""Interfaces that are gone for good: 410 at every version."""

from __future__ import annotations

from kilonova.context import Context, Services
from kilonova.web.routes import Routes

ROUTES: Routes[Services] = Routes(tag="removed")

_PATHS: dict[str, str] = {
    "/os-agents": "GET POST",
    "/os-agents/{id}": "PUT DELETE",
    "/os-cells": "GET POST",
    "/os-cells/capacities": "GET",
    "/os-cells/detail": "GET",
    "/os-cells/info": "GET",
    "/os-cells/sync_instances": "POST",
    "/os-cells/{id}": "GET PUT DELETE",
    "/os-cells/{id}/capacities": "GET",
    "/os-certificates": "POST",
    "/os-certificates/{id}": "GET",
    "/os-cloudpipe": "GET POST",
    "/os-cloudpipe/{id}": "PUT",
    "/os-fixed-ips/{id}": "GET",
    "/os-floating-ip-dns": "GET",
    "/os-floating-ip-dns/{id}": "PUT DELETE",
    "/os-floating-ip-dns/{domain_id}/entries/{id}": "GET PUT DELETE",
    "/os-floating-ips-bulk": "GET POST",
    "/os-floating-ips-bulk/{id}": "GET PUT",
    "/os-fping": "GET",
    "/os-fping/{id}": "GET",
    "/os-networks": "POST",
    "/os-networks/add": "POST",
    "/os-networks/{id}": "DELETE",
    "/os-security-group-default-rules": "GET POST",
    "/os-security-group-default-rules/{id}": "GET DELETE",
    "/os-tenant-networks": "POST",
    "/os-tenant-networks/{id}": "DELETE",
    "/servers/{server_id}/consoles": "GET POST",
    "/servers/{server_id}/consoles/{id}": "GET DELETE",
    "/servers/{server_id}/os-virtual-interfaces": "GET",
}
_ACTIONS: dict[str, tuple[str, ...]] = {
    "/os-fixed-ips/{id}/action": ("reserve", "unreserve"),
    "/os-networks/{id}/action": (
        "disassociate",
        "disassociate_host",
        "disassociate_project",
        "associate_host",
    ),
    "/servers/{server_id}/action": ("resetNetwork",),
}


async def _gone(call: Context) -> None:
    """Never reached: the route itself answers 410."""


for _path, _methods in _PATHS.items():
    for _method in _methods.split():
        ROUTES.add(_method, _path, _gone, gone=True)
for _path, _names in _ACTIONS.items():
    for _name in _names:
        ROUTES.add("POST", _path, _gone, action=_name, gone=True)
