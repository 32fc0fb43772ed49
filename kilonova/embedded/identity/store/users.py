"""Users, groups and who is in which."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from kilonova.base.errors import NotFound
from kilonova.db.database import Tx
from kilonova.embedded.identity.records import Group, User
from kilonova.embedded.identity.store import rows
from kilonova.embedded.identity.tables import (
    APPLICATION_CREDENTIAL,
    APPLICATION_CREDENTIAL_ROLE,
    ASSIGNMENT,
    CREDENTIAL,
    GROUP,
    MEMBER,
    USER,
)


def get(tx: Tx, user_id: str) -> User:
    """A user; NotFound."""
    found = rows.find(tx, User, USER, id=user_id)
    if found is None:
        raise NotFound(f"Could not find user: {user_id}.")
    return found


def find(tx: Tx, user_id: str) -> User | None:
    """The same, None when there is none."""
    return rows.find(tx, User, USER, id=user_id)


def by_name(tx: Tx, name: str, domain_id: str) -> User | None:
    """The user of that name in a domain."""
    return rows.find(tx, User, USER, name=name, domain_id=domain_id)


def page(
    tx: Tx,
    filters: Sequence[rows.Where],
    part: rows.Part | None = None,
    *,
    group_id: str | None = None,
) -> list[User]:
    """Users, of one group only if given."""
    more = []
    if group_id is not None:
        members = sa.select(MEMBER.c.user_id).where(MEMBER.c.group_id == group_id)
        more.append(USER.c.id.in_(members))
    found = tx.execute(rows.select(USER, filters, part, more))
    return [rows.load(User, row) for row in found]


def create(tx: Tx, user: User) -> None:
    """Write a new user; Conflict."""
    rows.insert(tx, USER, user, what="user in the domain")


def update(tx: Tx, user: User) -> None:
    """Write a changed user; Conflict."""
    rows.replace(tx, USER, user, what="user in the domain")


def delete(tx: Tx, user_id: str) -> None:
    """Remove a user and everything that is theirs; NotFound."""
    if not rows.remove(tx, USER, id=user_id):
        raise NotFound(f"Could not find user: {user_id}.")
    rows.remove(tx, MEMBER, user_id=user_id)
    rows.remove(tx, ASSIGNMENT, actor_kind="user", actor_id=user_id)
    mine = sa.select(APPLICATION_CREDENTIAL.c.id).where(APPLICATION_CREDENTIAL.c.user_id == user_id)
    tx.execute(
        APPLICATION_CREDENTIAL_ROLE.delete().where(
            APPLICATION_CREDENTIAL_ROLE.c.credential_id.in_(mine)
        )
    )
    rows.remove(tx, APPLICATION_CREDENTIAL, user_id=user_id)
    rows.remove(tx, CREDENTIAL, user_id=user_id)


def get_group(tx: Tx, group_id: str) -> Group:
    """A group; NotFound."""
    found = rows.find(tx, Group, GROUP, id=group_id)
    if found is None:
        raise NotFound(f"Could not find group: {group_id}.")
    return found


def group_page(
    tx: Tx,
    filters: Sequence[rows.Where],
    part: rows.Part | None = None,
    *,
    user_id: str | None = None,
) -> list[Group]:
    """Groups, those of one user only if given."""
    more = []
    if user_id is not None:
        joined = sa.select(MEMBER.c.group_id).where(MEMBER.c.user_id == user_id)
        more.append(GROUP.c.id.in_(joined))
    found = tx.execute(rows.select(GROUP, filters, part, more))
    return [rows.load(Group, row) for row in found]


def create_group(tx: Tx, group: Group) -> None:
    """Write a new group; Conflict."""
    rows.insert(tx, GROUP, group, what="group in the domain")


def update_group(tx: Tx, group: Group) -> None:
    """Write a changed group; Conflict."""
    rows.replace(tx, GROUP, group, what="group in the domain")


def delete_group(tx: Tx, group_id: str) -> None:
    """Remove a group, its memberships and its roles; NotFound."""
    if not rows.remove(tx, GROUP, id=group_id):
        raise NotFound(f"Could not find group: {group_id}.")
    rows.remove(tx, MEMBER, group_id=group_id)
    rows.remove(tx, ASSIGNMENT, actor_kind="group", actor_id=group_id)


def is_member(tx: Tx, user_id: str, group_id: str) -> bool:
    """Whether the user is in the group."""
    query = sa.select(MEMBER).where(MEMBER.c.user_id == user_id, MEMBER.c.group_id == group_id)
    return tx.execute(query).first() is not None


def add_member(tx: Tx, user_id: str, group_id: str) -> None:
    """Put a user into a group; nothing happens when they are in it."""
    if not is_member(tx, user_id, group_id):
        tx.execute(MEMBER.insert().values(user_id=user_id, group_id=group_id))


def remove_member(tx: Tx, user_id: str, group_id: str) -> None:
    """Take a user out of a group; NotFound when they are not in it."""
    if not rows.remove(tx, MEMBER, user_id=user_id, group_id=group_id):
        raise NotFound(f"User {user_id} is not in group {group_id}.")


def group_ids(tx: Tx, user_id: str) -> list[str]:
    """The ids of the groups a user is in."""
    query = sa.select(MEMBER.c.group_id).where(MEMBER.c.user_id == user_id)
    return list(tx.execute(query).scalars())


def member_ids(tx: Tx, group_id: str) -> list[str]:
    """The ids of the users in a group."""
    query = sa.select(MEMBER.c.user_id).where(MEMBER.c.group_id == group_id)
    return list(tx.execute(query).scalars())
