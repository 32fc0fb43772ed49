"""All sections together: ``load`` reads INI files into one frozen ``Settings``."""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kilonova.config import section
from kilonova.config.api import Api
from kilonova.config.cinder import Cinder
from kilonova.config.compute import Compute, ImageCache
from kilonova.config.database import ApiDatabase, Database, PlacementDatabase
from kilonova.config.default import Default
from kilonova.config.embedded import Embedded
from kilonova.config.filter_scheduler import FilterScheduler, Metrics
from kilonova.config.hypervisor import (
    Consoleauth,
    Libvirt,
    Mks,
    Qemu,
    SerialConsole,
    Spice,
    Vnc,
)
from kilonova.config.keystone import Glance, Keystone, KeystoneAuthtoken, VendordataDynamicAuth
from kilonova.config.kilonova import Kilonova
from kilonova.config.neutron import Neutron
from kilonova.config.notifications import (
    Notifications,
    OsloMessagingNotifications,
    OsloMessagingRabbit,
)
from kilonova.config.outside import Ironic, Manila
from kilonova.config.pci import Pci
from kilonova.config.placement import Placement
from kilonova.config.quota import OsloLimit, Quota, Workarounds
from kilonova.config.scheduler import Scheduler
from kilonova.config.web import Cors, OsloMiddleware, OsloPolicy, Wsgi

if TYPE_CHECKING:  # takes long to import, and a cloud of one process needs none of it
    from oslo_config import cfg


class Settings(msgspec.Struct, frozen=True):
    """One field per section; the field ``default`` is ``[DEFAULT]``."""

    default: Default = Default()
    api_database: ApiDatabase = ApiDatabase()
    database: Database = Database()
    placement_database: PlacementDatabase = PlacementDatabase()
    api: Api = Api()
    keystone_authtoken: KeystoneAuthtoken = KeystoneAuthtoken()
    keystone: Keystone = Keystone()
    vendordata_dynamic_auth: VendordataDynamicAuth = VendordataDynamicAuth()
    glance: Glance = Glance()
    neutron: Neutron = Neutron()
    cinder: Cinder = Cinder()
    ironic: Ironic = Ironic()
    manila: Manila = Manila()
    quota: Quota = Quota()
    oslo_limit: OsloLimit = OsloLimit()
    workarounds: Workarounds = Workarounds()
    placement: Placement = Placement()
    scheduler: Scheduler = Scheduler()
    filter_scheduler: FilterScheduler = FilterScheduler()
    metrics: Metrics = Metrics()
    compute: Compute = Compute()
    pci: Pci = Pci()
    image_cache: ImageCache = ImageCache()
    libvirt: Libvirt = Libvirt()
    qemu: Qemu = Qemu()
    vnc: Vnc = Vnc()
    serial_console: SerialConsole = SerialConsole()
    spice: Spice = Spice()
    mks: Mks = Mks()
    consoleauth: Consoleauth = Consoleauth()
    wsgi: Wsgi = Wsgi()
    cors: Cors = Cors()
    oslo_middleware: OsloMiddleware = OsloMiddleware()
    oslo_policy: OsloPolicy = OsloPolicy()
    notifications: Notifications = Notifications()
    oslo_messaging_notifications: OsloMessagingNotifications = OsloMessagingNotifications()
    oslo_messaging_rabbit: OsloMessagingRabbit = OsloMessagingRabbit()
    kilonova: Kilonova = Kilonova()
    embedded: Embedded = Embedded()


def load(
    files: Sequence[Path] = (),
    *,
    dirs: Sequence[Path] = (),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Read the files, then the ``*.conf`` of ``dirs`` (later ones win), then ``overrides``.

    ``overrides``: section → option → value. Raises ``oslo_config.cfg.Error`` with the option's
    name for a value that does not fit, and for a file that is not there.
    """
    from oslo_config import cfg  # noqa: PLC0415 (see above)

    conf = cfg.ConfigOpts()
    sections = typing.get_type_hints(Settings)
    for name, kind in sections.items():
        conf.register_opts(section.options(kind), group=_group(name))
    conf(
        args=[],
        project="nova",
        default_config_files=[str(f) for f in files],
        default_config_dirs=[str(d) for d in dirs],
    )
    for name, values in (overrides or {}).items():
        for option, value in values.items():
            conf.set_override(option, value, group=_group(name))
    return Settings(**{n: section.freeze(k, _values(conf, n)) for n, k in sections.items()})


def given(sections: Mapping[str, Mapping[str, object]]) -> Settings:
    """Settings of values as they are, section → option → value, without reading any file.

    None stands for an option that is not given, a path for its text.
    """
    kinds = typing.get_type_hints(Settings)
    made = {}
    for name, options in sections.items():
        field = "default" if name == "DEFAULT" else name
        values = {
            option: str(value) if isinstance(value, Path) else value
            for option, value in options.items()
            if value is not None
        }
        # A name that is none of the section's would be left out without a word.
        unknown = values.keys() - set(kinds[field].__struct_fields__)
        if unknown:
            raise ValueError(f"[{name}] has no {', '.join(sorted(unknown))}")
        made[field] = msgspec.convert(values, kinds[field])
    return Settings(**made)


def in_environment() -> bool:
    """Whether an option is set by the environment (``OS_GROUP__OPTION``), which ``load`` reads."""
    return any(re.match(r"OS_[^_].*__", name) for name in os.environ)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Options by section, as oslo.config's tools want them (entry point ``oslo.config.opts``)."""
    kinds = typing.get_type_hints(Settings).items()
    return [(_group(name) or "DEFAULT", section.options(kind)) for name, kind in kinds]


def _group(name: str) -> str | None:
    return None if name == "default" else name


def _values(conf: cfg.ConfigOpts, name: str) -> Any:
    return conf if name == "default" else conf[name]


def mutated(running: Settings, read: Settings) -> tuple[Settings, list[str]]:
    """``running`` with the mutable options of ``read``; the names of the others that differ."""
    ignored: list[str] = []
    sections = {}
    for name, kind in typing.get_type_hints(Settings).items():
        before, after = getattr(running, name), getattr(read, name)
        mutable = section.mutable(kind)
        changed = {
            field: getattr(after, field)
            for field in kind.__struct_fields__
            if getattr(before, field) != getattr(after, field)
        }
        shown = "DEFAULT" if name == "default" else name
        ignored += [f"[{shown}] {field}" for field in changed if field not in mutable]
        sections[name] = msgspec.structs.replace(
            before, **{field: value for field, value in changed.items() if field in mutable}
        )
    return Settings(**sections), ignored
