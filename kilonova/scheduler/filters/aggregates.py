"""Filters by the metadata of the host's aggregates."""

from __future__ import annotations

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env, host_filter
from kilonova.scheduler.operators import match
from kilonova.scheduler.state import HostState

_SCOPE = "aggregate_instance_extra_specs"
_OTHERS = frozenset({"group_policy", "hide_hypervisor_id"})


@host_filter("AggregateInstanceExtraSpecsFilter")
def extra_specs(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """Each scoped or unscoped extra spec must be met by a value in one of the aggregates."""
    for key, wanted in request.flavor.extra_specs.items():
        scope, colon, name = key.partition(":")
        if not colon:
            name = key
        elif scope != _SCOPE:
            continue
        if name in _OTHERS:
            continue
        values = host.aggregate_values(name)
        if not any(match(value, wanted) for value in values):
            have = ", ".join(sorted(values)) or "nothing"
            return f"its aggregates have {name}={have}, the flavor asks for {wanted}"
    return None


@host_filter("AggregateImagePropertiesIsolation", on_rebuild=True)
def image_properties(host: HostState, request: RequestSpec, env: Env) -> str | None:
    """A property the image has must have a value the aggregates that name it list."""
    options = env.options
    namespace = options.aggregate_image_properties_isolation_namespace
    start = namespace + options.aggregate_image_properties_isolation_separator if namespace else ""
    for aggregate in host.aggregates:
        for key in aggregate.metadata:
            if not key.startswith(start):
                continue
            value = request.properties.get(key)
            if value is None:
                continue
            allowed = {one for many in host.aggregate_values(key) for one in split(many)}
            if value not in allowed:
                return f"its aggregates want {key} in {', '.join(sorted(allowed))}, not {value}"
    return None


@host_filter("AggregateMultiTenancyIsolation")
def tenancy(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """A host in aggregates with ``filter_tenant_id*`` metadata takes only those projects."""
    allowed = {
        project
        for aggregate in host.aggregates
        for key, value in aggregate.metadata.items()
        if key.startswith("filter_tenant_id")
        for project in split(value)
    }
    if not allowed or request.project_id in allowed:
        return None
    return "it is set aside for other projects"


@host_filter("AggregateTypeAffinityFilter")
def flavors(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """A host in aggregates with ``instance_type`` metadata takes only flavors of those names."""
    allowed = {one for many in host.aggregate_values("instance_type") for one in split(many)}
    if not allowed or request.flavor.name in allowed:
        return None
    return f"its aggregates take flavors {', '.join(sorted(allowed))}, not {request.flavor.name}"


def split(text: str) -> set[str]:
    """The values of a comma list."""
    return {part.strip() for part in text.split(",") if part.strip()}
