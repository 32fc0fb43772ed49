"""The personas every other rule is made of: secure RBAC with Nova's names."""

from __future__ import annotations

from kilonova.policy.rule import Rule

ANYONE = "@"
NOBODY = "!"
ADMIN = "rule:context_is_admin"
MANAGER = "rule:project_manager_or_admin"
MEMBER = "rule:project_member_or_admin"
READER = "rule:project_reader_or_admin"
SERVICE = "rule:service_or_admin"
SAME_USER = "(rule:context_is_admin) or user_id:%(user_id)s"

_OWN_PROJECT = "project_id:%(project_id)s"

RULES: tuple[Rule, ...] = (
    Rule("context_is_admin", "role:admin", "Who counts as administrator."),
    Rule(
        "admin_or_owner",
        f"is_admin:True or {_OWN_PROJECT}",
        "Administrators and every role in the project that owns the resource (older rules).",
    ),
    Rule("admin_api", "is_admin:True", "Administrators (older rules)."),
    Rule("project_manager_api", f"role:manager and {_OWN_PROJECT}", "Managers of the project."),
    Rule("project_member_api", f"role:member and {_OWN_PROJECT}", "Members of the project."),
    Rule("project_reader_api", f"role:reader and {_OWN_PROJECT}", "Readers of the project."),
    Rule("service_api", "role:service", "Other services of the cloud."),
    Rule(
        "project_manager_or_admin",
        "rule:project_manager_api or rule:context_is_admin",
        "Managers of the project and administrators.",
    ),
    Rule(
        "project_member_or_admin",
        "rule:project_member_api or rule:context_is_admin",
        "Members of the project and administrators.",
    ),
    Rule(
        "project_reader_or_admin",
        "rule:project_reader_api or rule:context_is_admin",
        "Readers of the project and administrators.",
    ),
    Rule(
        "service_or_admin",
        "rule:service_api or rule:context_is_admin",
        "Other services and administrators.",
    ),
)
