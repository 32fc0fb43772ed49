"""The extensions we have: alias, name and what each means here."""

from __future__ import annotations

import msgspec


class Extension(msgspec.Struct, frozen=True):
    """A row of ``GET /v2.0/extensions``."""

    alias: str
    name: str
    description: str


EXTENSIONS = (
    Extension("address-pairs", "Allowed address pairs", "Further sources a port may use."),
    Extension("agent", "Agents", "The data plane of each host."),
    Extension("allowed-address-pairs", "Allowed address pairs", "Further sources of a port."),
    Extension(
        "auto-allocated-topology",
        "Automatic topology",
        "A network with a way out is made for a project that has none.",
    ),
    Extension("availability_zone", "Availability zones", "One zone for agents."),
    Extension("binding", "Port binding", "Ports are bound to hosts."),
    Extension("default-subnetpools", "Default subnet pools", "One pool per IP version."),
    Extension("dns-integration", "DNS names", "Ports and networks carry DNS names."),
    Extension("empty-string-filtering", "Empty filters", "Filters match empty strings."),
    Extension("external-net", "External networks", "Networks routers have gateways in."),
    Extension("ext-gw-mode", "Gateway mode", "SNAT of a router can be switched off."),
    Extension("extra_dhcp_opt", "DHCP options", "Ports carry further DHCP options."),
    Extension("extraroute", "Extra routes", "Routers carry static routes."),
    Extension("extraroute-atomic", "Extra routes one by one", "Routes are added and removed."),
    Extension("fip-port-details", "Port of a floating IP", "Floating IPs tell their port."),
    Extension("ip-substring-filtering", "Parts of addresses", "Ports by part of an address."),
    Extension("net-mtu", "MTU", "Networks tell their MTU."),
    Extension("net-mtu-writable", "MTU choice", "Networks may have a smaller MTU."),
    Extension("network_availability_zone", "Zones of networks", "Networks carry zone hints."),
    Extension("pagination", "Paging", "Lists come in pages."),
    Extension("port-security", "Port security", "Spoofing is stopped; may be switched off."),
    Extension("project-id", "Project id", "Resources tell project_id beside tenant_id."),
    Extension("provider", "Provider attributes", "Administrators see segments."),
    Extension("quotas", "Quotas", "Limits per project."),
    Extension("quota_details", "Quota use", "Limits together with use."),
    Extension("revision-if-match", "Conditions", "Changes may be bound to a revision."),
    Extension("router", "Routers", "Routers and floating IPs."),
    Extension("router_availability_zone", "Zones of routers", "Routers carry zone hints."),
    Extension("security-group", "Security groups", "Stateful filters of ports."),
    Extension(
        "security-groups-normalized-cidr", "Normal prefixes", "Rules tell their prefix normalized."
    ),
    Extension("shared-security-group", "Shared groups", "Groups tell whether they are shared."),
    Extension("sorting", "Sorting", "Lists are sorted as asked."),
    Extension("standard-attr-description", "Descriptions", "Resources carry a description."),
    Extension("standard-attr-revisions", "Revisions", "Resources count their changes."),
    Extension("standard-attr-tag", "Tags", "Resources carry tags."),
    Extension("standard-attr-timestamp", "Times", "Resources tell when they changed."),
    Extension("stateful-security-group", "Stateful groups", "Groups tell they are stateful."),
    Extension("subnet_allocation", "Subnet pools", "Subnets are cut from pools."),
    Extension("subnet-service-types", "Subnet services", "Subnets may serve only some owners."),
    Extension("tag-creation", "Tag creation", "Several tags are added at once."),
)
