"""What is a patient's own: limits by rule and time, facts such as the SpO2 scale, cohorts, time zones.

It travels as `overrides` of registry.patients: rule ids, and three keys that no rule id can be::

    {"spo2-low": {"limit": 86, "from": "2026-11-01T00:00:00Z", "to": null, "author": "dr-x", "reason": "COPD"},
     "_cohorts": ["copd"],
     "_facts": {"spo2_scale": 2, "pef_best": [{"from": "2026-10-01T00:00:00Z", "value": 480}]}}

A rule's entry is one override or a list of them. Where several cover an event time the later in the list counts, and
the patient's own before those of a cohort (registry.cohorts: ``{"cohort", "overrides": {rule: …}}``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from vitalgate.alerts.compiling import Facts, Zones, compile_terms
from vitalgate.alerts.machine import NEVER, Term
from vitalgate.alerts.rule import Override, Rule, with_override
from vitalgate.devices import times
from vitalgate.devices.reasons import Refused

COHORTS = "_cohorts"
FACTS = "_facts"
FOREVER = 1 << 62
ALWAYS = ((NEVER, FOREVER),)
#: Facts that rules can use, with their least and greatest value and what they are.
KNOWN_FACTS: Mapping[str, tuple[float, float, str]] = {
    "spo2_scale": (1, 2, "NEWS2 SpO2 scale; 2 only for confirmed hypercapnic failure with a target of 88 to 92 %"),
    "pef_best": (30, 900, "personal best of the peak flow, L/min, from two or three well weeks"),
}

Window = tuple[int, int]


@dataclass(frozen=True)
class Variant:
    """A rule as it is in force over some stretches of event time."""

    rule: Rule
    terms: tuple[Term, ...]
    windows: tuple[Window, ...] = ALWAYS
    quiet_hours: str = ""
    override: Override | None = None


@dataclass
class Profile:
    """A patient's own, read and checked."""

    overrides: dict[str, list[Override]] = field(default_factory=dict)
    """By rule id; the later counts more."""
    facts: Facts = field(default_factory=dict)
    zones: Zones = ()
    trouble: list[str] = field(default_factory=list)
    """A sentence for each entry that cannot be used."""


def cohorts_of(own: Mapping[str, Any]) -> list[str]:
    """Names of the cohorts that a patient is in."""
    names = own.get(COHORTS) or []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def read(own: Mapping[str, Any], cohorts: Iterable[tuple[str, Mapping[str, Any]]] = (), zones: Zones = ()) -> Profile:
    """A patient's overrides and those of their cohorts. What cannot be used is left out and named."""
    profile = Profile(zones=zones)
    for name, entries in cohorts:
        _take(profile, entries, f"cohort {name}: ")
    _take(profile, own, "")
    facts = own.get(FACTS) or {}
    if isinstance(facts, Mapping):
        profile.facts = {name: read for name, raw in facts.items() if (read := _fact(profile, name, raw))}
    else:
        profile.trouble.append(f"{FACTS} is no object of facts; it is not used")
    return profile


def _take(profile: Profile, entries: Mapping[str, Any], where: str) -> None:
    for rule, raw in entries.items():
        if rule.startswith("_"):
            continue
        for one in raw if isinstance(raw, list) else [raw]:
            try:
                override = Override.model_validate(one)
                span(override)
            except (ValidationError, Refused) as error:
                profile.trouble.append(f"{where}override of {rule} is not used: {first_fault(error)}")
            else:
                profile.overrides.setdefault(rule, []).append(override)


def _fact(profile: Profile, name: str, raw: Any) -> tuple[tuple[int, float], ...]:
    if name not in KNOWN_FACTS:
        profile.trouble.append(f"unknown fact {name}; there are {', '.join(KNOWN_FACTS)}")
        return ()
    low, high, _ = KNOWN_FACTS[name]
    found: list[tuple[int, float]] = []
    for one in raw if isinstance(raw, list) else [{"value": raw}]:
        try:
            value = float(one["value"])
            since = times.parse(one["from"]).us if one.get("from") else NEVER
        except (KeyError, TypeError, ValueError, AttributeError, Refused):
            profile.trouble.append(f"fact {name}: {one!r} is not used; give a value and, if need be, `from`")
            continue
        if not low <= value <= high:
            profile.trouble.append(f"fact {name}: {value:g} is outside {low:g} to {high:g} and is not used")
            continue
        found.append((since, value))
    return tuple(sorted(found))


def span(override: Override) -> Window:
    """[from, to) of an override, us.

    Raises
    ------
    Refused
        When one of them is no time.
    """
    return (
        NEVER if override.from_ is None else times.parse(override.from_).us,
        FOREVER if override.to is None else times.parse(override.to).us,
    )


def variants(rule: Rule, profile: Profile) -> tuple[Variant, ...]:
    """The forms in which a rule is in force for a patient, with the stretches of event time of each; none when it is
    switched off for ever.
    """
    found: list[Variant] = []
    free: list[Window] = list(ALWAYS)
    for override in reversed(profile.overrides.get(rule.id, [])):
        taken, free = _taken(free, span(override))
        if not taken or not override.enabled:
            continue
        try:
            own = with_override(rule, override)
        except ValidationError as error:
            # An unusable override must not switch a rule off.
            profile.trouble.append(f"override of {rule.id} is not used: {first_fault(error)}")
            free = sorted([*free, *taken])
            continue
        terms = compile_terms(own, profile.facts, profile.zones)
        found.append(Variant(own, terms, _always(taken), override.quiet_hours, override))
    if free:
        found.append(Variant(rule, compile_terms(rule, profile.facts, profile.zones), _always(_joined(free))))
    return tuple(reversed(found))


def _taken(free: list[Window], wanted: Window) -> tuple[list[Window], list[Window]]:
    taken: list[Window] = []
    left: list[Window] = []
    for begin, end in free:
        inner = (max(begin, wanted[0]), min(end, wanted[1]))
        if inner[0] >= inner[1]:
            left.append((begin, end))
            continue
        taken.append(inner)
        left += [part for part in ((begin, inner[0]), (inner[1], end)) if part[0] < part[1]]
    return taken, left


def _always(windows: list[Window]) -> tuple[Window, ...]:
    return ALWAYS if tuple(windows) == ALWAYS else tuple(windows)


def _joined(windows: list[Window]) -> list[Window]:
    joined: list[Window] = []
    for begin, end in sorted(windows):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def first_fault(error: Exception) -> str:
    """The first thing that is wrong, in a line."""
    if not isinstance(error, ValidationError):
        return str(error)
    item = error.errors()[0]
    place = ".".join(str(part) for part in item["loc"])
    return f"{place}: {item['msg']}" if place else str(item["msg"])
