"""What flavor and image ask of a host's NUMA cells, CPUs and pages, and whether they may.

The codes of the errors are the names Nova has for them; Nova answers each of them with 400.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from kilonova.base.errors import BadRequest
from kilonova.domain.fit import cpus
from kilonova.domain.fit.shapes import ANY, LARGE, SMALL, GuestCell, GuestTopology
from kilonova.domain.guest import FlavorSpec

Words = Mapping[str, str]

_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_PAGES = {"small": SMALL, "large": LARGE, "any": ANY}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]i?)?(b|bit|B)")
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_POLICIES = ("shared", "dedicated", "mixed")
_THREADS = ("prefer", "isolate", "require")
_EMULATOR = ("share", "isolate")
AFFINITIES = ("required", "preferred", "legacy", "socket")


class _Rules(msgspec.Struct, frozen=True):
    """What is said about the guest's CPUs."""

    policy: str | None
    threads: str | None
    emulator: str | None
    realtime: frozenset[int]
    dedicated: frozenset[int]


def topology(flavor: FlavorSpec, properties: Words) -> GuestTopology | None:
    """The topology asked for; None when any host's shape will do. BadRequest."""
    specs = flavor.extra_specs
    rules = _rules(flavor, properties)
    nodes = _nodes(specs, properties)
    page = page_size(specs, properties)
    _check_locked(specs, properties, page)
    if nodes is None and page is None and rules.policy not in ("dedicated", "mixed"):
        return None
    return GuestTopology(
        tuple(_cells(flavor, properties, nodes or 1, page, rules)),
        policy=rules.policy or "shared",
        threads=rules.threads,
        emulator=rules.emulator,
        realtime=rules.realtime,
    )


def truth(text: str | None) -> bool:
    """Whether an extra spec or property says yes."""
    return (text or "").strip().lower() in _TRUE


# -- CPUs --------------------------------------------------------------------------------------


def _rules(flavor: FlavorSpec, properties: Words) -> _Rules:
    specs = flavor.extra_specs
    policy = cpu_policy(specs, properties)
    threads = _threads(specs, properties, policy)
    emulator = _emulator(specs, policy)
    every = frozenset(range(flavor.vcpus))
    realtime = _realtime(specs, properties, policy, emulator, every)
    return _Rules(policy, threads, emulator, realtime, _dedicated(specs, policy, realtime, every))


def cpu_policy(specs: Words, properties: Words) -> str | None:
    """``hw:cpu_policy`` and ``hw_cpu_policy`` together. BadRequest."""
    flavor = specs.get("hw:cpu_policy")
    image = properties.get("hw_cpu_policy")
    if flavor and flavor not in _POLICIES:
        raise _bad("InvalidCPUAllocationPolicy", f"hw:cpu_policy cannot be {flavor!r}.")
    if image and image not in _POLICIES:
        raise _bad("InvalidCPUAllocationPolicy", f"hw_cpu_policy cannot be {image!r}.")
    stricter = {"shared": ("dedicated", "mixed"), "mixed": ("dedicated",)}
    if flavor and image in stricter.get(flavor, ()):
        raise _bad(
            "ImageCPUPinningForbidden",
            f"The image wants the CPU policy {image}, the flavor allows only {flavor}.",
        )
    return flavor or image or None


def _threads(specs: Words, properties: Words, policy: str | None) -> str | None:
    flavor = specs.get("hw:cpu_thread_policy")
    image = properties.get("hw_cpu_thread_policy")
    for name, value in (("hw:cpu_thread_policy", flavor), ("hw_cpu_thread_policy", image)):
        if value and value not in _THREADS:
            raise _bad("InvalidCPUThreadAllocationPolicy", f"{name} cannot be {value!r}.")
    if flavor in ("isolate", "require") and image and image != flavor:
        raise _bad(
            "ImageCPUThreadPolicyForbidden",
            f"The image wants the CPU thread policy {image}, the flavor says {flavor}.",
        )
    found = flavor or image or None
    if found and policy not in ("dedicated", "mixed"):
        raise _bad(
            "CPUThreadPolicyConfigurationInvalid",
            "A CPU thread policy needs the CPU policy dedicated or mixed.",
        )
    return found


def _emulator(specs: Words, policy: str | None) -> str | None:
    found = specs.get("hw:emulator_threads_policy") or None
    if found and found not in _EMULATOR:
        raise _bad(
            "InvalidEmulatorThreadsPolicy", f"hw:emulator_threads_policy cannot be {found!r}."
        )
    if found == "isolate" and policy not in ("dedicated", "mixed"):
        raise _bad(
            "BadRequirementEmulatorThreadsPolicy",
            "CPUs of their own for emulator threads need the CPU policy dedicated or mixed.",
        )
    return found


def _realtime(
    specs: Words,
    properties: Words,
    policy: str | None,
    emulator: str | None,
    every: frozenset[int],
) -> frozenset[int]:
    if not truth(specs.get("hw:cpu_realtime")):
        return frozenset()
    mask = properties.get("hw_cpu_realtime_mask") or specs.get("hw:cpu_realtime_mask")
    chosen = _cpus(mask, every) if mask else every
    if not chosen or not chosen <= every or (chosen == every and not emulator):
        raise _bad(
            "RealtimeMaskNotFoundOrInvalid",
            "The realtime mask must leave one vCPU of the guest out, and not all of them.",
        )
    if policy not in ("dedicated", "mixed"):
        raise _bad(
            "RealtimeConfigurationInvalid",
            "Realtime vCPUs need the CPU policy dedicated or mixed.",
        )
    return chosen


def _dedicated(
    specs: Words, policy: str | None, realtime: frozenset[int], every: frozenset[int]
) -> frozenset[int]:
    """The vCPUs with CPUs of their own."""
    mask = specs.get("hw:cpu_dedicated_mask")
    if policy != "mixed":
        if mask:
            raise _bad(
                "RequiredMixedInstancePolicy",
                "hw:cpu_dedicated_mask needs the CPU policy mixed.",
            )
        return every if policy == "dedicated" else frozenset()
    if bool(mask) == bool(realtime):
        raise _bad(
            "RequiredMixedOrRealtimeCPUMask",
            "The CPU policy mixed needs either hw:cpu_dedicated_mask or realtime vCPUs.",
        )
    if not mask:
        return realtime
    chosen = _cpus(mask, every)
    if not chosen or not chosen < every:
        raise _bad(
            "InvalidMixedInstanceDedicatedMask",
            "The mask of dedicated vCPUs must name some vCPUs of the guest, but not all.",
        )
    return chosen


def _cpus(mask: str, every: frozenset[int]) -> frozenset[int]:
    try:
        return cpus.parse(mask, of=every)
    except ValueError as error:
        raise _bad("Invalid", f"The mask of CPUs is wrong: {error}.") from None


# -- memory ------------------------------------------------------------------------------------


def page_size(specs: Words, properties: Words) -> int | None:
    """KiB, or SMALL, LARGE, ANY; None when nothing is said. BadRequest."""
    flavor = _page(specs.get("hw:mem_page_size"))
    image = _page(properties.get("hw_mem_page_size"))
    if image is None:
        return flavor
    if flavor not in (LARGE, ANY):
        raise _bad(
            "MemoryPageSizeForbidden",
            "The image may choose the page size only where the flavor says large or any.",
        )
    return image


def _page(text: str | None) -> int | None:
    if not text:
        return None
    if text in _PAGES:
        return _PAGES[text]
    size = 0.0
    if text.isdigit():
        size = int(text)
    elif found := _SIZE.fullmatch(text):
        unit = (found[2] or "").lower()
        bits = 1 if found[3] == "B" else 8
        size = float(found[1]) * 1024 ** _UNITS[unit[:1]] / bits / 1024
    else:
        raise _bad("MemoryPageSizeInvalid", f"{text!r} is no page size.")
    return int(size) or None


def _check_locked(specs: Words, properties: Words, page: int | None) -> None:
    flavor, image = specs.get("hw:locked_memory"), properties.get("hw_locked_memory")
    if flavor and image and truth(flavor) != truth(image):
        raise _bad(
            "FlavorImageLockedMemoryConflict", "Flavor and image differ about locked memory."
        )
    if (truth(flavor) or truth(image)) and page is None:
        raise _bad("LockMemoryForbidden", "Locked memory needs hw:mem_page_size.")


# -- cells -------------------------------------------------------------------------------------


def _nodes(specs: Words, properties: Words) -> int | None:
    text = _either(specs, properties, "numa_nodes", "numa_nodes")
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise _bad("InvalidNUMANodesNumber", f"{text!r} is no number of NUMA nodes.")
    return int(text)


def _either(specs: Words, properties: Words, flavor_key: str, image_key: str) -> str | None:
    """What the flavor or else the image says; both must not speak."""
    flavor, image = specs.get(f"hw:{flavor_key}"), properties.get(f"hw_{image_key}")
    if flavor is not None and image is not None:
        raise _bad(
            "ImageNUMATopologyForbidden",
            f"The image may not set hw_{image_key}, as the flavor does.",
        )
    return flavor if flavor is not None else image


def _listed(
    specs: Words, properties: Words, name: str, read: Callable[[str], object]
) -> list[object]:
    """``hw:name.0``, ``hw:name.1`` … of the flavor, or else of the image."""
    flavor = [specs[f"hw:{name}.{n}"] for n in _run(specs, f"hw:{name}.")]
    image = [properties[f"hw_{name}.{n}"] for n in _run(properties, f"hw_{name}.")]
    if flavor and image:
        raise _bad(
            "ImageNUMATopologyForbidden",
            f"The image may not set hw_{name}, as the flavor does.",
        )
    return [read(text) for text in flavor or image]


def _run(words: Words, start: str) -> range:
    count = 0
    while f"{start}{count}" in words:
        count += 1
    return range(count)


def _cells(
    flavor: FlavorSpec, properties: Words, nodes: int, page: int | None, rules: _Rules
) -> list[GuestCell]:
    return [
        GuestCell(
            id=number,
            memory_mb=memory,
            cpus=chosen - rules.dedicated,
            pcpus=chosen & rules.dedicated,
            page_kb=page,
        )
        for number, (chosen, memory) in enumerate(_split(flavor, properties, nodes))
    ]


def _split(flavor: FlavorSpec, properties: Words, nodes: int) -> list[tuple[frozenset[int], int]]:
    specs, every = flavor.extra_specs, frozenset(range(flavor.vcpus))
    sets = _listed(specs, properties, "numa_cpus", lambda text: _cpus(text, every))
    sizes = _listed(specs, properties, "numa_mem", _memory)
    if not sets and not sizes:
        return _even(flavor, nodes)
    if len(sets) != nodes or len(sizes) != nodes:
        raise _bad(
            "ImageNUMATopologyIncomplete",
            "The vCPUs and the memory of every NUMA node must be given, or of none.",
        )
    pairs = [
        (chosen, memory)
        for chosen, memory in zip(sets, sizes, strict=True)
        if isinstance(chosen, frozenset) and isinstance(memory, int)
    ]
    _check_split(pairs, flavor, every)
    return pairs


def _even(flavor: FlavorSpec, nodes: int) -> list[tuple[frozenset[int], int]]:
    if flavor.vcpus % nodes or flavor.memory_mb % nodes:
        raise _bad(
            "ImageNUMATopologyAsymmetric",
            f"{flavor.vcpus} vCPUs and {flavor.memory_mb} MiB do not divide into {nodes} equal "
            "NUMA nodes; say what each has.",
        )
    size = flavor.vcpus // nodes
    return [
        (frozenset(range(n * size, (n + 1) * size)), flavor.memory_mb // nodes)
        for n in range(nodes)
    ]


def _check_split(
    pairs: list[tuple[frozenset[int], int]], flavor: FlavorSpec, every: frozenset[int]
) -> None:
    seen: set[int] = set()
    for chosen, _ in pairs:
        if not chosen <= every:
            raise _bad(
                "ImageNUMATopologyCPUOutOfRange",
                f"NUMA nodes name vCPUs beyond {flavor.vcpus - 1}.",
            )
        if seen & chosen:
            raise _bad("ImageNUMATopologyCPUDuplicates", "A vCPU is in two NUMA nodes.")
        seen |= chosen
    if seen != every:
        raise _bad("ImageNUMATopologyCPUsUnassigned", "A vCPU is in no NUMA node.")
    if sum(memory for _, memory in pairs) != flavor.memory_mb:
        raise _bad(
            "ImageNUMATopologyMemoryOutOfRange",
            f"The memory of the NUMA nodes is not the flavor's {flavor.memory_mb} MiB.",
        )


def _memory(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise _bad("InvalidRequest", f"{text!r} is no amount of memory for a NUMA node.")
    return int(text)


def pci_policy(specs: Words, properties: Words) -> str | None:
    """``hw:pci_numa_affinity_policy`` of flavor or image, which may not differ. BadRequest."""
    flavor = specs.get("hw:pci_numa_affinity_policy") or None
    image = properties.get("hw_pci_numa_affinity_policy") or None
    if flavor and image and flavor != image:
        raise _bad(
            "ImagePCINUMAPolicyForbidden",
            f"The image wants the PCI NUMA policy {image}, the flavor says {flavor}.",
        )
    found = flavor or image
    if found and found not in AFFINITIES:
        raise _bad("InvalidPCINUMAAffinity", f"{found!r} is no PCI NUMA policy.")
    return found


def _bad(code: str, message: str) -> BadRequest:
    return BadRequest(message, code=code)
