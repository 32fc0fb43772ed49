"""Vendor data: what an operator tells every guest."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from kilonova.base.clock import Clock
from kilonova.clients import keystone
from kilonova.config.settings import Settings
from kilonova.metadata.vendordata import Rules, Token, VendorData
from kilonova.services import neighbours
from kilonova.services.startup import Unconfigured
from kilonova.web.client import HttpClient

log = logging.getLogger(__name__)


def make(
    settings: Settings, http: HttpClient, clock: Clock, stack: contextlib.AsyncExitStack
) -> VendorData:
    """Vendor data as ``[api]`` and ``[vendordata_dynamic_auth]`` say.

    Unconfigured for a file that cannot be used. ``stack`` closes what is opened for it.
    """
    api = settings.api
    rules = Rules(
        providers=api.vendordata_providers,
        static=data(settings),
        targets=tuple(targets(api.vendordata_dynamic_targets)),
        seconds=float(api.vendordata_dynamic_connect_timeout + api.vendordata_dynamic_read_timeout),
        fatal=api.vendordata_dynamic_failure_fatal,
    )
    if rules.targets and api.vendordata_dynamic_ssl_certfile:
        http = HttpClient(verify=api.vendordata_dynamic_ssl_certfile)
        stack.push_async_callback(http.close)
    return VendorData(rules, http=http, token=_token(settings, http, clock))


def targets(words: Iterable[str]) -> list[tuple[str, str]]:
    """(name, URL) of each ``NAME@URL``; what has no name, or one that was there, is left out."""
    found: dict[str, str] = {}
    for word in words:
        name, sign, url = word.partition("@")
        if not sign or name in found:
            log.warning("[api] vendordata_dynamic_targets: %s needs a name of its own", word)
            continue
        found[name] = url
    return list(found.items())


def _token(settings: Settings, http: HttpClient, clock: Clock) -> Token | None:
    section = settings.vendordata_dynamic_auth
    if not section.auth_url:
        return None
    return keystone.source(http, neighbours.login_of(section), clock).token


def data(settings: Settings) -> dict[str, Any]:
    """The object in ``[api] vendordata_jsonfile_path``; empty when there is none.

    Unconfigured for a file that cannot be read or holds something else.
    """
    file = settings.api.vendordata_jsonfile_path
    if not file or "StaticJSON" not in settings.api.vendordata_providers:
        return {}
    try:
        read: dict[str, Any] = msgspec.json.decode(Path(file).read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise Unconfigured(
            f"[api] vendordata_jsonfile_path: {file} cannot be read ({error.strerror})."
        ) from None
    except msgspec.MsgspecError as error:
        raise Unconfigured(
            f"[api] vendordata_jsonfile_path: {file} is no JSON object ({error})."
        ) from None
    return read
