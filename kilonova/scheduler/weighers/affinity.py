"""ServerGroupSoftAffinityWeigher, ServerGroupSoftAntiAffinityWeigher, CrossCellWeigher,
ImagePropertiesWeigher: near what belongs together."""

from __future__ import annotations

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Concerns, Env
from kilonova.scheduler.state import HostState
from kilonova.scheduler.weighers.base import weigher
from kilonova.scheduler.weighers.metrics import ratios


def _is(policy: str) -> Concerns:
    return lambda request, _env: request.group is not None and request.group.policy == policy


@weigher(
    "ServerGroupSoftAffinityWeigher",
    "soft_affinity_weight_multiplier",
    least=0.0,
    concerns=_is("soft-affinity"),
)
def together(host: HostState, request: RequestSpec, _env: Env) -> float:
    """Members of a soft-affinity group there."""
    group = request.group
    return float(group.counts.get(host.host, 0)) if group is not None else 0.0


@weigher(
    "ServerGroupSoftAntiAffinityWeigher",
    "soft_anti_affinity_weight_multiplier",
    most=0.0,
    concerns=_is("soft-anti-affinity"),
)
def apart(host: HostState, request: RequestSpec, _env: Env) -> float:
    """Members of a soft-anti-affinity group there, counted against the host."""
    group = request.group
    return -float(group.counts.get(host.host, 0)) if group is not None else 0.0


@weigher(
    "CrossCellWeigher",
    "cross_cell_move_weight_multiplier",
    least=0.0,
    most=1.0,
    concerns=lambda request, _env: request.source_cell_id is not None,
)
def same_cell(host: HostState, request: RequestSpec, _env: Env) -> float:
    """The cell a moving server is in."""
    return 1.0 if host.cell_id == request.source_cell_id else 0.0


@weigher(
    "ImagePropertiesWeigher",
    "image_props_weight_multiplier",
    least=0.0,
    concerns=lambda request, _env: bool(request.properties),
)
def like_images(host: HostState, request: RequestSpec, env: Env) -> float:
    """How often the image's properties are those of images of servers there."""
    wanted = ratios(env.options.image_props_weight_setting)
    return sum(
        wanted.get(name, 0.0) if wanted else 1.0
        for other in host.image_properties
        for name, value in request.properties.items()
        if other.get(name) == value
    )
