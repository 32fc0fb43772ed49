"""Request filters: what is narrowed before Placement is asked, so that it does the work."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from kilonova.config.scheduler import Scheduler
from kilonova.domain.request import RequestSpec
from kilonova.scheduler.demand import TRUE, Demand
from kilonova.scheduler.state import Aggregate

_NUMBERED = re.compile(r"resources([A-Za-z0-9_-]{1,64}):.+")


class Facts(msgspec.Struct, frozen=True):
    """What request filters look at besides the request."""

    options: Scheduler
    aggregates: Sequence[Aggregate] = ()
    default_zone: str = "nova"


class Unplaceable(Exception):
    """No host can serve the request, whatever Placement would say; the text says why."""


RequestFilter = Callable[[RequestSpec, Demand, Facts], Demand]


def _in_one_of(demand: Demand, aggregates: Sequence[Aggregate]) -> Demand:
    uuids = tuple(aggregate.uuid for aggregate in aggregates)
    return msgspec.structs.replace(demand, member_of=(*demand.member_of, uuids))


def _in_none_of(demand: Demand, aggregates: Sequence[Aggregate]) -> Demand:
    uuids = [a.uuid for a in aggregates if a.uuid not in demand.forbidden_aggregates]
    return msgspec.structs.replace(
        demand, forbidden_aggregates=(*demand.forbidden_aggregates, *uuids)
    )


def require_tenant_aggregate(request: RequestSpec, demand: Demand, facts: Facts) -> Demand:
    """Only aggregates whose ``filter_tenant_id*`` metadata names the project."""
    if not facts.options.limit_tenants_to_placement_aggregate:
        return demand
    mine = [
        aggregate
        for aggregate in facts.aggregates
        if any(
            key.startswith("filter_tenant_id") and value == request.project_id
            for key, value in aggregate.metadata.items()
        )
    ]
    if mine:
        return _in_one_of(demand, mine)
    if facts.options.placement_aggregate_required_for_tenants:
        raise Unplaceable(f"No aggregate is set aside for project {request.project_id}.")
    return demand


def map_az_to_placement_aggregate(request: RequestSpec, demand: Demand, facts: Facts) -> Demand:
    """Only hosts of the availability zone; the default zone is every host in no other one."""
    zone = request.availability_zone
    if not zone:
        return demand
    there = [a for a in facts.aggregates if a.availability_zone == zone]
    if there:
        return _in_one_of(demand, there)
    if zone == facts.default_zone:
        return _in_none_of(demand, [a for a in facts.aggregates if a.availability_zone])
    raise Unplaceable(f"There is no availability zone {zone}.")


def require_image_type_support(request: RequestSpec, demand: Demand, facts: Facts) -> Demand:
    """Only hosts whose driver reads the image's disk format."""
    wanted = facts.options.query_placement_for_image_type_support
    if not wanted or request.boot_from_volume or request.image is None:
        return demand
    return demand.require(f"COMPUTE_IMAGE_TYPE_{_word(request.image.disk_format)}")


def compute_status_filter(_request: RequestSpec, demand: Demand, _facts: Facts) -> Demand:
    """No hosts whose service is disabled."""
    return msgspec.structs.replace(
        demand, root_forbidden=(*demand.root_forbidden, "COMPUTE_STATUS_DISABLED")
    )


def owner(_request: RequestSpec, demand: Demand, _facts: Facts) -> Demand:
    """No providers that another service made, whatever they have."""
    return msgspec.structs.replace(demand, ours=True)


def isolate_aggregates(_request: RequestSpec, demand: Demand, facts: Facts) -> Demand:
    """No aggregates whose ``trait:X=required`` metadata asks for a trait that is not requested."""
    if not facts.options.enable_isolated_aggregate_filtering:
        return demand
    asked = demand.traits
    closed = [
        aggregate
        for aggregate in facts.aggregates
        if any(
            key.startswith("trait:") and value == "required" and key[6:] not in asked
            for key, value in aggregate.metadata.items()
        )
    ]
    return _in_none_of(demand, closed) if closed else demand


def routed_networks(request: RequestSpec, demand: Demand, facts: Facts) -> Demand:
    """Only hosts that reach a segment of each routed network."""
    if not facts.options.query_placement_for_routed_network_aggregates:
        return demand
    if not all(request.routed):
        raise Unplaceable("A routed network that is asked for has segments that no host reaches.")
    return msgspec.structs.replace(demand, member_of=(*demand.member_of, *request.routed))


_IMAGE_TRAITS = {
    "hw_cdrom_bus": "COMPUTE_STORAGE_BUS_",
    "hw_disk_bus": "COMPUTE_STORAGE_BUS_",
    "hw_video_model": "COMPUTE_GRAPHICS_MODEL_",
    "hw_vif_model": "COMPUTE_NET_VIF_MODEL_",
    "hw_architecture": "HW_ARCH_",
    "hw_emulation_architecture": "COMPUTE_ARCH_",
    "hw_viommu_model": "COMPUTE_VIOMMU_MODEL_",
}


def transform_image_metadata(request: RequestSpec, demand: Demand, facts: Facts) -> Demand:
    """Only hosts that have the devices the image's properties name."""
    if not facts.options.image_metadata_prefilter:
        return demand
    names = (
        prefix + _word(request.properties[key])
        for key, prefix in _IMAGE_TRAITS.items()
        if request.properties.get(key)
    )
    return demand.require(*names)


def device_features(request: RequestSpec, demand: Demand, _facts: Facts) -> Demand:
    """Only hosts whose driver can do what flavor, image or ports ask for specially."""
    wanted = []
    if request.flavor.extra_specs.get("accel:device_profile"):
        wanted.append("COMPUTE_ACCELERATORS")
    if "remote-managed" in request.vnic_types:
        wanted.append("COMPUTE_REMOTE_MANAGED_PORTS")
    if _said(request, "virtio_packed_ring").lower() in TRUE:
        wanted.append("COMPUTE_NET_VIRTIO_PACKED")
    if _said(request, "ephemeral_encryption").lower() in TRUE:
        wanted.append("COMPUTE_EPHEMERAL_ENCRYPTION")
        form = _said(request, "ephemeral_encryption_format")
        if form:
            wanted.append(f"COMPUTE_EPHEMERAL_ENCRYPTION_{_word(form)}")
    for name in ("sound_model", "usb_model"):
        model = _said(request, name)
        if model and model != "none":
            wanted.append(f"COMPUTE_{_word(name)}_{_word(model)}")
    if _said(request, "pci_numa_affinity_policy") == "socket":
        wanted.append("COMPUTE_SOCKET_PCI_NUMA_AFFINITY")
    mode = _said(request, "maxphysaddr_mode")
    if mode:
        kind = "PASSTHROUGH" if mode == "passthrough" else "EMULATED"
        wanted.append(f"COMPUTE_ADDRESS_SPACE_{kind}")
    return demand.require(*wanted)


def security(request: RequestSpec, demand: Demand, _facts: Facts) -> Demand:
    """Only hosts with the TPM, the secure boot, the firmware without state that is asked for."""
    wanted = []
    version, model = _said(request, "tpm_version"), _said(request, "tpm_model")
    if version:
        wanted.append(f"COMPUTE_SECURITY_TPM_{_word(version)}")
    if model:
        wanted.append(f"COMPUTE_SECURITY_{_word(model)}")
    secret = _said(request, "tpm_secret_security")
    if secret:
        wanted.append(f"COMPUTE_SECURITY_TPM_SECRET_SECURITY_{_word(secret)}")
    secure = request.flavor.extra_specs.get("os:secure_boot")
    if (secure or request.properties.get("os_secure_boot", "")).lower() == "required":
        wanted.append("COMPUTE_SECURITY_UEFI_SECURE_BOOT")
    if request.properties.get("hw_firmware_stateless", "").lower() in TRUE:
        wanted.append("COMPUTE_SECURITY_STATELESS_FIRMWARE")
    return demand.require(*wanted)


def group_policy(request: RequestSpec, demand: Demand, _facts: Facts) -> Demand:
    """A flavor with several groups of resources has to say how they are to one another."""
    specs = request.flavor.extra_specs
    groups = {found[1] for key in specs if (found := _NUMBERED.fullmatch(key))}
    if len(groups) > 1 and demand.group_policy is None:
        raise Unplaceable("The flavor has several groups of resources and no group_policy.")
    return demand


def _said(request: RequestSpec, name: str) -> str:
    """What the flavor (``hw:name``) or else the image (``hw_name``) says."""
    specs = request.flavor.extra_specs
    return specs.get(f"hw:{name}") or request.properties.get(f"hw_{name}") or ""


def _word(text: str) -> str:
    return text.upper().replace("-", "_").replace(".", "_")


ALL: tuple[RequestFilter, ...] = (
    require_tenant_aggregate,
    map_az_to_placement_aggregate,
    require_image_type_support,
    compute_status_filter,
    transform_image_metadata,
    device_features,
    security,
    group_policy,
    routed_networks,
    owner,
    isolate_aggregates,
)


def narrow(request: RequestSpec, demand: Demand, facts: Facts) -> Demand:
    """The demand after every request filter; Unplaceable."""
    for one in ALL:
        demand = one(request, demand, facts)
    return demand
