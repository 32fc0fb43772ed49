"""The things Placement keeps, as frozen Structs."""

from __future__ import annotations

import datetime as dt

import msgspec


class Provider(msgspec.Struct, frozen=True):
    """Something that has resources: a host, a NUMA node of it, a shared disk."""

    id: int
    uuid: str
    name: str
    generation: int
    parent_uuid: str | None
    root_uuid: str
    updated_at: dt.datetime


class Inventory(msgspec.Struct, frozen=True):
    """How much of one resource class a provider has, and in which portions it is given out."""

    total: int
    reserved: int = 0
    min_unit: int = 1
    max_unit: int = 2147483647
    step_size: int = 1
    allocation_ratio: float = 1.0

    @property
    def capacity(self) -> int:
        """What may be allocated at most."""
        return int((self.total - self.reserved) * self.allocation_ratio)

    def admits(self, amount: int) -> bool:
        """Whether one allocation may have that size (whatever is in use now)."""
        return self.min_unit <= amount <= self.max_unit and amount % self.step_size == 0


class Consumer(msgspec.Struct, frozen=True):
    """Who holds allocations: usually a server or a migration. ``type`` is None before 1.38."""

    id: int
    uuid: str
    project_id: str
    user_id: str
    generation: int
    type: str | None = None


class Allocation(msgspec.Struct, frozen=True):
    """An amount of one class of one provider, held by one consumer."""

    provider_uuid: str
    provider_generation: int
    resource_class: str
    used: int
    consumer: Consumer
    updated_at: dt.datetime


class Named(msgspec.Struct, frozen=True):
    """A resource class or a trait."""

    name: str
    updated_at: dt.datetime


UNKNOWN_TYPE = "unknown"
CUSTOM = "CUSTOM_"
SHARING = "MISC_SHARES_VIA_AGGREGATE"
NOBODY = "00000000-0000-0000-0000-000000000000"
