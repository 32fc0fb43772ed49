"""Default limits by the names of the API."""

from __future__ import annotations

from kilonova.config.quota import Quota


def test_limits_have_the_names_of_the_api() -> None:
    limits = Quota(instances=3, injected_file_path_length=7).limits()
    assert limits["instances"] == 3
    assert limits["injected_file_path_bytes"] == 7
    assert "injected_file_path_length" not in limits
    assert all(isinstance(limit, int) for limit in limits.values())
    assert set(limits) >= {"cores", "ram", "key_pairs", "server_groups", "server_group_members"}
