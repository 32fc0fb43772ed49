"""``nova-policy``: look at the policy in force."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TypeAlias

from oslo_config import cfg

from kilonova.policy.rule import PolicyError
from kilonova.services import commandline, startup
from kilonova.services.manage import policy
from kilonova.services.startup import Unconfigured

NAME = "nova-policy"

Actions: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; 0 if some rule allows, 1 if none does or something is wrong."""
    given = _parser().parse_args(argv)
    try:
        asked = commandline.asked(given)
        settings = startup.read_settings(asked)
        startup.log_to(settings, NAME)
        near = [file.absolute().parent for file in asked.files]
        if given.action == "list":
            return policy.show(settings, near)
        return policy.check(
            settings,
            near,
            roles=[r.strip() for r in given.os_roles.split(",") if r.strip()],
            user_id=given.os_user_id,
            project_id=given.os_tenant_id or None,
            api_name=given.api_name,
            target=given.target,
        )
    except (cfg.Error, PolicyError, Unconfigured) as error:
        return startup.fail(NAME, str(error))


def _parser() -> argparse.ArgumentParser:
    made = commandline.parser(NAME, "Look at the Compute API's policy.")
    made.add_argument("--os-roles", default=os.environ.get("OS_ROLES", ""), metavar="A,B")
    made.add_argument("--os-user-id", default=os.environ.get("OS_USER_ID", ""), metavar="ID")
    made.add_argument(
        "--os-tenant-id",
        "--os-project-id",
        default=os.environ.get("OS_TENANT_ID", os.environ.get("OS_PROJECT_ID", "")),
        metavar="ID",
    )
    areas = made.add_subparsers(required=True, metavar="policy")
    whole = areas.add_parser("policy", help="The rules of the Compute API.")
    _actions(whole.add_subparsers(required=True, metavar="list|check"))
    _actions(areas)
    return made


def _actions(actions: Actions) -> None:
    listing = actions.add_parser("list", help="Print all rules as they are in force.")
    listing.set_defaults(action="list")
    check = actions.add_parser("check", help="Print the rules that allow a user something.")
    check.add_argument("--api-name", metavar="NAME", help="Part of the rules' names.")
    check.add_argument("--target", nargs="+", default=[], metavar="KEY=VALUE")
    check.set_defaults(action="check")


if __name__ == "__main__":
    sys.exit(main())
