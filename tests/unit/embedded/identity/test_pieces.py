"""Passwords, token claims, URL templates, role expansion, rules."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonova.embedded.identity import policy, views
from kilonova.embedded.identity.passwords import Passwords, check_password, hash_password
from kilonova.embedded.identity.settings import Cost
from kilonova.embedded.identity.store.roles import expand
from kilonova.embedded.identity.store.standing import Claims
from kilonova.embedded.identity.tokens import pack, unpack
from kilonova.web.call import Caller

CHEAP = Cost(n=16, r=1)
IDS = st.one_of(st.uuids().map(lambda u: u.hex), st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True))


def test_hash_keeps_its_parameters() -> None:
    stored = hash_password("secret", CHEAP)
    assert stored.startswith("scrypt$16$1$1$")
    assert len(stored) <= 255
    assert check_password("secret", stored)
    assert not check_password("Secret", stored)
    assert stored != hash_password("secret", CHEAP)


async def test_right_passwords_are_remembered_and_wrong_ones_are_not() -> None:
    passwords = Passwords(Cost(n=1 << 13))
    stored = await passwords.hash("c0rrect")
    begun = time.perf_counter()
    for _ in range(50):
        assert await passwords.check("c0rrect", stored)
    fast = (time.perf_counter() - begun) / 50
    begun = time.perf_counter()
    assert not await passwords.check("wrong", stored)
    wrong = time.perf_counter() - begun
    begun = time.perf_counter()
    assert not await passwords.check("c0rrect", None)
    unknown = time.perf_counter() - begun
    assert fast * 5 < min(wrong, unknown)
    assert "c0rrect" not in str(vars(passwords))


@given(IDS, IDS, st.sampled_from(["project", "domain", "system", ""]), st.booleans())
def test_claims_survive_packing(user: str, scope: str, kind: str, with_credential: bool) -> None:
    claims = Claims(
        user_id=user,
        methods=("password", "token"),
        audit_ids=("ee0Xcxow0NkafmeLHZnBzQ", "2Jd5aLq0R1SX-_bq3tZ0cA"),
        issued_at=1_700_000_000_123_456,
        expires_at=1_700_000_360_123_456,
        project_id=scope if kind == "project" else None,
        domain_id=scope if kind == "domain" else None,
        system=kind == "system",
        application_credential_id=scope if with_credential else None,
    )
    assert unpack(pack(claims)) == claims


@given(st.binary(max_size=200))
def test_nonsense_is_no_claims(payload: bytes) -> None:
    unpack(payload)


@pytest.mark.parametrize(
    ("url", "filled"),
    [
        ("http://x/$(project_id)s/y", "http://x/p/y"),
        ("http://x/AUTH_%(tenant_id)s", "http://x/AUTH_p"),
        ("http://x/$(nothing)s", None),
        ("http://x", "http://x"),
    ],
)
def test_url_templates(url: str, filled: str | None) -> None:
    assert views.fill(url, {"project_id": "p", "tenant_id": "p"}) == filled


def test_roles_expand_also_in_circles() -> None:
    implied = {"admin": ["manager"], "manager": ["member"], "member": ["reader", "admin"]}
    assert expand(["member"], implied) == ["member", "reader", "admin", "manager"]
    assert expand(["other"], implied) == ["other"]


def test_unknown_rules_allow_nothing() -> None:
    admin = Caller(user_id="a", roles=("admin",))
    assert not policy.Policy().allows("identity:odd", admin, {})
    assert policy.Policy().allows("identity:list_users", admin, {})
    reader = Caller(user_id="r", roles=("reader",), domain_id="d")
    assert policy.Policy().allows("identity:list_users", reader, {"domain_id": "d"})
    assert not policy.Policy().allows("identity:list_users", reader, {"domain_id": "e"})
