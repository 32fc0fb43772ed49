"""Who may call what on the network API: one row per rule, with Neutron's names."""

from __future__ import annotations

from kilonova.embedded.network.attrs import KINDS
from kilonova.policy.rule import Rule

READ = "role:reader or role:admin or role:service"
WRITE = "role:member or role:admin or role:service"


def rules() -> list[Rule]:
    """Every rule with its default."""
    made = []
    for kind in KINDS:
        made.append(Rule(f"get_{kind.name}", READ, f"Read {kind.plural}."))
        made += [
            Rule(f"{verb}_{kind.name}", WRITE, f"{verb.capitalize()} {kind.plural}.")
            for verb in ("create", "update", "delete")
        ]
    made += [
        Rule(f"{verb}_router_interface", WRITE, f"{verb.capitalize()} legs of routers.")
        for verb in ("add", "remove")
    ]
    return made
