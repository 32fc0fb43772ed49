"""All sections together: ``load`` reads INI files into one frozen ``Settings``."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from oslo_config import cfg

from kilonova.config import section
from kilonova.config.api import Api
from kilonova.config.compute import Compute, ImageCache
from kilonova.config.database import ApiDatabase, Database, PlacementDatabase
from kilonova.config.default import Default
from kilonova.config.filter_scheduler import FilterScheduler, Metrics
from kilonova.config.hypervisor import Libvirt, Qemu, SerialConsole, Vnc
from kilonova.config.keystone import Glance, Keystone, KeystoneAuthtoken
from kilonova.config.neutron import Neutron
from kilonova.config.placement import Placement
from kilonova.config.quota import Quota
from kilonova.config.scheduler import Scheduler


class Settings(msgspec.Struct, frozen=True):
    """One field per section; the field ``default`` is ``[DEFAULT]``."""

    default: Default = Default()
    api_database: ApiDatabase = ApiDatabase()
    database: Database = Database()
    placement_database: PlacementDatabase = PlacementDatabase()
    api: Api = Api()
    keystone_authtoken: KeystoneAuthtoken = KeystoneAuthtoken()
    keystone: Keystone = Keystone()
    glance: Glance = Glance()
    neutron: Neutron = Neutron()
    quota: Quota = Quota()
    placement: Placement = Placement()
    scheduler: Scheduler = Scheduler()
    filter_scheduler: FilterScheduler = FilterScheduler()
    metrics: Metrics = Metrics()
    compute: Compute = Compute()
    image_cache: ImageCache = ImageCache()
    libvirt: Libvirt = Libvirt()
    qemu: Qemu = Qemu()
    vnc: Vnc = Vnc()
    serial_console: SerialConsole = SerialConsole()


def load(
    files: Sequence[Path] = (), *, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    """Read the files (later ones win), then ``overrides`` (section → option → value).

    Raises ``oslo_config.cfg.Error`` with the option's name for a value that does not fit.
    """
    conf = cfg.ConfigOpts()
    sections = typing.get_type_hints(Settings)
    for name, kind in sections.items():
        conf.register_opts(section.options(kind), group=_group(name))
    conf(args=[], project="nova", default_config_files=[str(f) for f in files])
    for name, values in (overrides or {}).items():
        for option, value in values.items():
            conf.set_override(option, value, group=_group(name))
    return Settings(**{n: section.freeze(k, _values(conf, n)) for n, k in sections.items()})


def _group(name: str) -> str | None:
    return None if name == "default" else name


def _values(conf: cfg.ConfigOpts, name: str) -> Any:
    return conf if name == "default" else conf[name]
