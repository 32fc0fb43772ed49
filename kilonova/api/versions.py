"""The microversions of the Compute API: one row each, and the documents that tell of them."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import NotFound, Unauthorized
from kilonova.context import Context, Services
from kilonova.web.call import Reply, join
from kilonova.web.routes import Routes
from kilonova.web.versions import VersionRange

MICROVERSIONS: tuple[str, ...] = (
    "Strict checks of request bodies.",
    "Key pairs have a type, ssh or x509; create answers 201, delete 204.",
    "Administrators see more of a server; volumes show delete_on_termination.",
    "Fixed IPs show whether they are reserved.",
    "Users may filter servers by ip6.",
    "Remote consoles are a resource; the old actions end.",
    "A public flavor takes no access list.",
    "Remote consoles of protocol mks.",
    "Servers show whether they are locked.",
    "Administrators handle key pairs of any user.",
    "Services can be forced down.",
    "Virtual interfaces show their network.",
    "Server groups show project and user.",
    "Evacuate finds out about shared storage itself.",
    "Soft affinity and soft anti-affinity.",
    "Servers show the status of their host.",
    "Crash dumps can be triggered.",
    "The project id in the URL is optional.",
    "Servers have a description.",
    "Volumes may be attached to shelved servers.",
    "Actions of deleted servers stay visible.",
    "Live migrations can be forced to complete.",
    "Live migrations of a server are a resource.",
    "Live migrations can be aborted.",
    "Live migration finds out about block migration itself.",
    "Servers have tags.",
    "The header OpenStack-API-Version is understood.",
    "Hypervisors show cpu_info as an object.",
    "Evacuate to a host asks the scheduler unless forced.",
    "Live migration to a host asks the scheduler unless forced.",
    "Tokens of every console type can be looked up.",
    "Devices and networks may be tagged on create.",
    "Lists of hypervisors come in pages.",
    "Checks of live migration are asynchronous.",
    "Lists of key pairs come in pages.",
    "The proxies to other services end.",
    "Networks must be named on create, or auto, or none.",
    "Unknown statuses in filters are refused.",
    "The image metadata proxy ends.",
    "Usage comes in pages.",
    "Aggregates show their uuid.",
    "Device tags work again.",
    "Host management by os-hosts ends.",
    "The fixed and floating IP actions end.",
    "Images made of servers are told in the body.",
    "The request id header has the common name.",
    "Servers show their own copy of the flavor.",
    "Diagnostics have one form for all hypervisors.",
    "Attached interfaces and volumes may be tagged.",
    "Quota classes know server groups.",
    "The event volume-extended; owners see events of actions.",
    "Servers can be made with tags.",
    "Services and hypervisors are named by uuid.",
    "Rebuild may change the key.",
    "Flavors have a description.",
    "Cold migration to a given host.",
    "Personality files end; rebuild may change user data.",
    "Lists of actions come in pages.",
    "Lists of migrations come in pages; they have a uuid.",
    "Volumes may be attached to several servers.",
    "Flavors show their extra specs.",
    "Events of actions show their host.",
    "Trusted image certificates.",
    "Server groups have one policy with rules.",
    "Queued live migrations can be aborted.",
    "Changes before a time can be asked for.",
    "Devices may name a volume type.",
    "Evacuate and live migration cannot be forced.",
    "Servers of cells that are down are shown in part.",
    "Interfaces and volume attachments show their tag.",
    "Servers show their groups.",
    "Ports with resource requests on create.",
    "Locks have a reason.",
    "Create names a host whose filters still run.",
    "Unknown query parameters and body keys are refused; update and rebuild show all.",
    "The event power-update.",
    "Unshelve into a zone.",
    "Servers show their topology.",
    "Attachments say what becomes of the volume at the end.",
    "Migrations show project and user.",
    "Images can be cached on an aggregate beforehand.",
    "The event accelerator-request-bound.",
    "Users have more filters for servers.",
    "Events of actions show details of a failure.",
    "Attachments can be updated.",
    "Extra specs of flavors are checked.",
    "Servers on volumes can be rescued.",
    "Hypervisors show no resources; uptime is inline.",
    "Attachments show their ids.",
    "Servers have a host name of their own.",
    "Unshelve to a host.",
    "Key pairs are not generated any more.",
    "Servers on volumes can be rebuilt with another image.",
    "Host names may be full domain names.",
    "Evacuated servers stay off.",
    "Servers show the zone they are pinned to.",
    "File shares can be attached.",
    "Servers show their image's properties.",
    "Consoles of type spice-direct.",
    "Servers show their scheduler hints.",
    "Attaching a volume is asynchronous.",
    "Flavors are found by name; two old fields end.",
    "The old way to boot from a volume ends.",
    "A server can be unpinned from its zone.",
)
"""Row n is microversion 2.(n + 1): what it brought."""

VERSIONS = VersionRange(
    "compute", 2, 1, len(MICROVERSIONS), legacy_header="X-OpenStack-Nova-API-Version"
)

ROUTES: Routes[Services] = Routes(rooted=False, tag="versions")
_UPDATED = {"v2.0": "2011-01-21T11:33:21Z", "v2.1": "2013-07-23T11:33:21Z"}
_PATHS = {"v2.0": "v2", "v2.1": "v2.1"}
_DOCS = "https://docs.openstack.org/"


def _version(call: Context, name: str, *path: str) -> dict[str, Any]:
    current = name == "v2.1"
    href = join(call.base, _PATHS[name], *path)
    return {
        "id": name,
        "status": "CURRENT" if current else "SUPPORTED",
        "version": VERSIONS.highest if current else "",
        "min_version": VERSIONS.lowest if current else "",
        "updated": _UPDATED[name],
        "links": [{"rel": "self", "href": href if path else href + "/"}],
    }


def _media(name: str) -> list[dict[str, str]]:
    kind = f"application/vnd.openstack.compute+json;version={name[1:] if name != 'v2.0' else '2'}"
    return [{"base": "application/json", "type": kind}]


def _document(call: Context, name: str) -> dict[str, Any]:
    found = _version(call, name)
    found["links"].append({"rel": "describedby", "type": "text/html", "href": _DOCS})
    return {"version": {**found, "media-types": _media(name)}}


@ROUTES.get("/", public=True, summary="List API versions")
async def root(call: Context) -> dict[str, Any]:
    """Both versions."""
    return {"versions": [_version(call, name) for name in _UPDATED]}


@ROUTES.get("/v2.1", public=True, versioned=True, summary="Show API version 2.1")
async def home(call: Context) -> dict[str, Any]:
    """The version document; clients that leave out the slash at the end are spared a redirect."""
    return _document(call, "v2.1")


@ROUTES.get("/v2", public=True, summary="Show API version 2.0")
async def old_home(call: Context) -> dict[str, Any]:
    """The same of the older name."""
    return _document(call, "v2.0")


@ROUTES.get("/v2.1/versions", public=True, versioned=True, summary="List API versions")
async def listed(call: Context) -> Reply:
    """As at the root, as choices."""
    return _choices(call, "")


@ROUTES.get(
    "/v2.1/versions/{version_id}", public=True, versioned=True, summary="Show an API version"
)
async def by_id(call: Context, version_id: str) -> dict[str, Any]:
    """One version document."""
    if version_id not in _UPDATED:
        raise NotFound("The resource could not be found.")
    return _document(call, version_id)


@ROUTES.get("/{rest:path}", public=True, summary="Choose an API version")
async def choices(call: Context) -> Reply:
    """A path without a version: 300 with where it would be."""
    path = call.request.scope["path"].strip("/")
    first = path.partition("/")[0]
    if first in _PATHS.values():
        if "x-auth-token" not in call.request.headers:
            raise Unauthorized("The request you have made requires authentication.")
        raise NotFound("The resource could not be found.")
    return _choices(call, path)


def _choices(call: Context, path: str) -> Reply:
    found = []
    for name in _UPDATED:
        row = _version(call, name, *filter(None, path.split("/")))
        row.pop("updated")
        found.append({**row, "media-types": _media(name)})
    return Reply({"choices": found}, status=300)
