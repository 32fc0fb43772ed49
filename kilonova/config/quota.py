"""``[quota]``: what a project or user may have when nothing else is said; -1 is no limit."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Quota(msgspec.Struct, frozen=True):
    """``[quota]``."""

    instances: Annotated[int, Opt("Servers of a project.", min=-1)] = 10
    cores: Annotated[int, Opt("Virtual CPUs of a project.", min=-1)] = 20
    ram: Annotated[int, Opt("Memory of a project in MiB.", min=-1)] = 51200
    metadata_items: Annotated[int, Opt("Metadata items of a server.", min=-1)] = 128
    injected_files: Annotated[int, Opt("Files given to a new server.", min=-1)] = 5
    injected_file_content_bytes: Annotated[int, Opt("Bytes of such a file.", min=-1)] = 10240
    injected_file_path_length: Annotated[int, Opt("Characters of its path.", min=-1)] = 255
    key_pairs: Annotated[int, Opt("Key pairs of a user.", min=-1)] = 100
    server_groups: Annotated[int, Opt("Server groups of a project.", min=-1)] = 10
    server_group_members: Annotated[int, Opt("Servers of a group.", min=-1)] = 10

    driver: Annotated[
        str,
        Opt(
            "Whose limits count: rows of our database, none, or those of the identity service.",
            choices=(
                "nova.quota.DbQuotaDriver",
                "nova.quota.NoopQuotaDriver",
                "nova.quota.UnifiedLimitsDriver",
            ),
        ),
    ] = "nova.quota.DbQuotaDriver"
    recheck_quota: Annotated[
        bool, Opt("Kept for its name: limits hold under concurrency without a second look.")
    ] = True
    count_usage_from_placement: Annotated[
        bool, Opt("Count cores and memory as Placement does: what is held, not what was asked for.")
    ] = False
    unified_limits_resource_strategy: Annotated[
        str,
        Opt(
            "Whether unified_limits_resource_list names what must have a limit, or what need not.",
            choices=("require", "ignore"),
        ),
    ] = "require"
    unified_limits_resource_list: Annotated[
        tuple[str, ...],
        Opt("What the strategy is about, as ``servers`` or ``class:VGPU``."),
    ] = ("servers",)

    def limits(self) -> dict[str, int]:
        """Resource → default limit, by the names of the API."""
        found = {name: getattr(self, name) for name in _LIMITS}
        found["injected_file_path_bytes"] = found.pop("injected_file_path_length")
        return found


_LIMITS = (
    "instances",
    "cores",
    "ram",
    "metadata_items",
    "injected_files",
    "injected_file_content_bytes",
    "injected_file_path_length",
    "key_pairs",
    "server_groups",
    "server_group_members",
)


class OsloLimit(msgspec.Struct, frozen=True):
    """``[oslo_limit]``: which service's limits are looked up in the identity service."""

    endpoint_id: Annotated[str | None, Opt("Endpoint of the Compute API.")] = None
    endpoint_service_type: Annotated[str, Opt("Its type, without an endpoint_id.")] = "compute"
    endpoint_service_name: Annotated[str | None, Opt("Its name, if several have the type.")] = None
    endpoint_region_name: Annotated[str | None, Opt("Region of the limits.")] = None


class Workarounds(msgspec.Struct, frozen=True):
    """``[workarounds]``."""

    unified_limits_count_pcpu_as_vcpu: Annotated[
        bool, Opt("Count dedicated CPUs in class:VCPU too, unless a flavor names PCPU itself.")
    ] = False
