"""IsolatedHostsFilter: some images only on some hosts."""

from __future__ import annotations

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env, host_filter
from kilonova.scheduler.state import HostState


@host_filter("IsolatedHostsFilter", on_rebuild=True)
def check(host: HostState, request: RequestSpec, env: Env) -> str | None:
    """Isolated images go to isolated hosts, and (unless switched off) no others go there."""
    options = env.options
    image_id = request.image.id if request.image else ""
    image = image_id in options.isolated_images
    place = host.host in options.isolated_hosts
    if image and not place:
        return f"image {image_id} is kept to other hosts"
    if place and not image and options.restrict_isolated_hosts_to_isolated_images:
        return "it is kept for other images"
    return None
