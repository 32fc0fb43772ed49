"""``[placement]``: the Placement service's own options, and how others reach it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt

_NOBODY = "00000000-0000-0000-0000-000000000000"


class Placement(msgspec.Struct, frozen=True):
    """``[placement]``."""

    randomize_allocation_candidates: Annotated[
        bool, Opt("Answer candidates of random trees instead of the roomiest first.")
    ] = False
    allocation_conflict_retry_count: Annotated[
        int, Opt("Tries again of a write that met another one in the database.", min=1)
    ] = 10
    incomplete_consumer_project_id: Annotated[
        str, Opt("Project of consumers made before 1.8, which names none.")
    ] = _NOBODY
    incomplete_consumer_user_id: Annotated[
        str, Opt("User of consumers made before 1.8, which names none.")
    ] = _NOBODY
    max_allocation_candidates: Annotated[
        int, Opt("Candidates made at most for one request; -1 for no bound.", min=-1)
    ] = -1
    allocation_candidates_generation_strategy: Annotated[
        str,
        Opt(
            "Make all candidates of one tree first, or one of each tree in turn.",
            choices=("depth-first", "breadth-first"),
        ),
    ] = "depth-first"
    auth_type: Annotated[str | None, Opt("Kind of authentication towards Placement.")] = None
    auth_url: Annotated[str | None, Opt("Identity service to get a token from.")] = None
    username: Annotated[str | None, Opt("Our user there.")] = None
    password: Annotated[str | None, Opt("Its password.", secret=True)] = None
    project_name: Annotated[str | None, Opt("Project of the token.")] = None
    user_domain_name: Annotated[str | None, Opt("Domain of the user.")] = None
    project_domain_name: Annotated[str | None, Opt("Domain of the project.")] = None
    region_name: Annotated[str | None, Opt("Region whose Placement is used.")] = None
    endpoint_override: Annotated[
        str | None, Opt("URL of Placement; by default from the catalog.")
    ] = None
    valid_interfaces: Annotated[
        tuple[str, ...], Opt("Kinds of endpoint looked for in the catalog, best first.")
    ] = ("internal", "public")
    timeout: Annotated[int, Opt("Seconds until a request to Placement is given up.", min=1)] = 60
