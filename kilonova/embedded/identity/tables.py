"""Tables of the identity service.

Times are whole microseconds since 1970 (UTC). ``extra`` holds the attributes clients made up
themselves, as a JSON object. A domain is a row of ``identity_project`` with ``is_domain`` whose
own ``domain_id`` is empty.
"""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db import idempotency

META = sa.MetaData()


def _id(name: str = "id", *, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(64), nullable=False, primary_key=primary_key)


KEYS = idempotency.table(META)

PROJECT = sa.Table(
    "identity_project",
    META,
    _id(primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    _id("domain_id"),
    sa.Column("parent_id", sa.String(64), nullable=True, index=True),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("is_domain", sa.Boolean, nullable=False),
    sa.Column("options", sa.Text, nullable=False),
    sa.Column("extra", sa.Text, nullable=False),
    sa.Column("valid_from", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("domain_id", "name", name="uq_identity_project_name"),
)

PROJECT_TAG = sa.Table(
    "identity_project_tag",
    META,
    _id("project_id", primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True, nullable=False),
)

USER = sa.Table(
    "identity_user",
    META,
    _id(primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    _id("domain_id"),
    sa.Column("default_project_id", sa.String(64), nullable=True),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("options", sa.Text, nullable=False),
    sa.Column("extra", sa.Text, nullable=False),
    sa.Column("password_hash", sa.String(255), nullable=True),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("valid_from", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("domain_id", "name", name="uq_identity_user_name"),
)

GROUP = sa.Table(
    "identity_group",
    META,
    _id(primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    _id("domain_id"),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("extra", sa.Text, nullable=False),
    sa.UniqueConstraint("domain_id", "name", name="uq_identity_group_name"),
)

MEMBER = sa.Table(
    "identity_member",
    META,
    _id("user_id", primary_key=True),
    _id("group_id", primary_key=True),
    sa.Index("ix_identity_member_group_id", "group_id"),
)

ROLE = sa.Table(
    "identity_role",
    META,
    _id(primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    _id("domain_id"),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("options", sa.Text, nullable=False),
    sa.Column("extra", sa.Text, nullable=False),
    sa.UniqueConstraint("domain_id", "name", name="uq_identity_role_name"),
)

IMPLIED = sa.Table(
    "identity_implied_role",
    META,
    _id("prior_id", primary_key=True),
    _id("implied_id", primary_key=True),
)

ASSIGNMENT = sa.Table(
    "identity_assignment",
    META,
    sa.Column("actor_kind", sa.String(8), primary_key=True, nullable=False),
    _id("actor_id", primary_key=True),
    sa.Column("target_kind", sa.String(8), primary_key=True, nullable=False),
    _id("target_id", primary_key=True),
    _id("role_id", primary_key=True),
    sa.Column("inherited", sa.Boolean, primary_key=True, nullable=False),
    sa.Index("ix_identity_assignment_target", "target_kind", "target_id"),
)

REGION = sa.Table(
    "identity_region",
    META,
    sa.Column("id", sa.String(255), primary_key=True, nullable=False),
    sa.Column("parent_region_id", sa.String(255), nullable=True),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("extra", sa.Text, nullable=False),
)

SERVICE = sa.Table(
    "identity_service",
    META,
    _id(primary_key=True),
    sa.Column("type", sa.String(255), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("extra", sa.Text, nullable=False),
)

ENDPOINT = sa.Table(
    "identity_endpoint",
    META,
    _id(primary_key=True),
    sa.Column("service_id", sa.String(64), nullable=False, index=True),
    sa.Column("region_id", sa.String(255), nullable=True),
    sa.Column("interface", sa.String(8), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("extra", sa.Text, nullable=False),
)

APPLICATION_CREDENTIAL = sa.Table(
    "identity_application_credential",
    META,
    _id(primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    _id("user_id"),
    _id("project_id"),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("secret_hash", sa.String(255), nullable=False),
    sa.Column("unrestricted", sa.Boolean, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=True),
    sa.UniqueConstraint("user_id", "name", name="uq_identity_application_credential_name"),
)

APPLICATION_CREDENTIAL_ROLE = sa.Table(
    "identity_application_credential_role",
    META,
    _id("credential_id", primary_key=True),
    _id("role_id", primary_key=True),
)

CREDENTIAL = sa.Table(
    "identity_credential",
    META,
    _id(primary_key=True),
    sa.Column("user_id", sa.String(64), nullable=False, index=True),
    sa.Column("project_id", sa.String(64), nullable=True),
    sa.Column("type", sa.String(255), nullable=False),
    sa.Column("blob", sa.Text, nullable=False),
    sa.Column("extra", sa.Text, nullable=False),
)

REVOKED = sa.Table(
    "identity_revoked_token",
    META,
    sa.Column("audit_id", sa.String(32), primary_key=True, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
)

REVISION = sa.Table(
    "identity_revision",
    META,
    sa.Column("id", sa.Integer, primary_key=True, nullable=False, autoincrement=False),
    sa.Column("number", sa.BigInteger, nullable=False),
)

REGISTERED_LIMIT = sa.Table(
    "identity_registered_limit",
    META,
    _id(primary_key=True),
    _id("service_id"),
    sa.Column("region_id", sa.String(255), nullable=False),
    sa.Column("resource_name", sa.String(255), nullable=False),
    sa.Column("default_limit", sa.BigInteger, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Index("ix_identity_registered_limit_service_id", "service_id"),
)

LIMIT = sa.Table(
    "identity_limit",
    META,
    _id(primary_key=True),
    _id("registered_id"),
    sa.Column("project_id", sa.String(64), nullable=True, index=True),
    sa.Column("domain_id", sa.String(64), nullable=True, index=True),
    sa.Column("resource_limit", sa.BigInteger, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Index("ix_identity_limit_registered_id", "registered_id"),
)
