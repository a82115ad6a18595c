"""Whether the alert limits of a treatment plan can do what they say: by the same check as a patient's own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from vitalgate.alerts import rules
from vitalgate.alerts.checks import override_faults
from vitalgate.alerts.rule import Rule
from vitalgate.records.errors import Invalid
from vitalgate.records.record_type import Values
from vitalgate.storage.records_database import Further

#: Verbs with which limits come into force, or are written down.
_SETTING = frozenset({"create", "change", "activate"})


def checks(directory: str = "") -> Mapping[str, Further]:
    """What a RecordsDatabase of ours holds records to besides their own rules.

    Parameters
    ----------
    directory
        Of further alert rules (`alerting.rules`).

    Raises
    ------
    RuleError
        When the rules cannot be used.
    """
    return {"treatment_plan": check(rules.load(directory).rules.values())}


def check(known: Iterable[Rule]) -> Further:
    """A pre-condition of treatment plans: each limit is of a rule that there is, is one that the rule allows, and can
    be reached.
    """
    there = list(known)

    def holds(verb: str, after: Values, given: Values) -> None:
        if verb not in _SETTING or (verb == "change" and "alert_overrides" not in given):
            return
        found = [
            (f"alertOverrides.{name}", text)
            for name, entry in (after.get("alert_overrides") or {}).items()
            for text in _faults(name, entry, there)
        ]
        if found:
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            raise Invalid(f"alertOverrides cannot be used: {found[0][1]}{more}", found)

    return holds


def _faults(name: str, entry: Any, known: list[Rule]) -> list[str]:
    entries = entry if isinstance(entry, list) else [entry]
    if not entries or not all(isinstance(one, Mapping) for one in entries):
        return [f'override of {name} is no object such as {{"limit": 110, "reason": "…"}}, nor a list of them']
    if not all(str(one.get("reason") or "").strip() for one in entries):
        return [f"override of {name} needs a reason"]
    # The plan is the author: the database says so when it comes into force.
    named: list[dict[str, Any]] = [{**one, "author": "plan"} for one in entries]
    return override_faults({name: named}, known, round(time.time() * 1e6))
