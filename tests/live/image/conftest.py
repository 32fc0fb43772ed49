"""The client libraries use modules that warn when they are imported; that is not ours to mend."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import openstack  # noqa: F401
