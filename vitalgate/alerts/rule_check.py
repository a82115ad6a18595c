"""Checking rule files, and telling a patient's rules in words."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vitalgate.alerts import checks, profile, rules, vectors
from vitalgate.alerts.compiling import Zones, silence_s
from vitalgate.alerts.conditions import AnyCondition, Day, Event, Flagged, Score, Silent, Threshold, Trend
from vitalgate.alerts.profile import Variant, first_fault
from vitalgate.alerts.rule import Override, Rule, number, with_override
from vitalgate.alerts.rules import VECTORS, Book, RuleError


@dataclass
class Checked:
    """What a check found."""

    rules: int = 0
    vectors: int = 0
    faults: list[str] = field(default_factory=list)


def check_shipped(directory: str = "") -> Checked:
    """Check all rules in force, with their vectors where they have some."""
    try:
        book = rules.load(directory)
    except RuleError as error:
        return Checked(faults=[str(error)])
    own = Path(directory) if directory else None
    folder = files("vitalgate.alerts") / "rules"
    done = Checked()
    for rule in book.rules.values():
        beside: Traversable | Path = folder / f"{rule.id}{VECTORS}"
        if own is not None and not (rules.shipped_as_is(rule)):
            beside = own / f"{rule.id}{VECTORS}"
        _check(done, rule, beside, book.rules)
    return done


def check_files(paths: Iterable[Path]) -> Checked:
    """Check rule files, and those in folders, against themselves and the shipped rules."""
    done = Checked()
    read: list[tuple[Rule, Path]] = []
    for path in paths:
        for file in sorted(path.glob("*.toml")) if path.is_dir() else [path]:
            if file.name.endswith(VECTORS):
                continue
            try:
                read.append((rules.parse(rules.text_of(file), str(file)), file))
            except (RuleError, OSError, UnicodeDecodeError) as error:
                done.faults.append(str(error))
    known = {rule.id: rule for rule in rules.shipped()} | {rule.id: rule for rule, _ in read}
    for rule, file in read:
        _check(done, rule, file.with_name(f"{rule.id}{VECTORS}"), known)
    return done


def _check(done: Checked, rule: Rule, beside: Traversable | Path, known: Mapping[str, Rule]) -> None:
    done.rules += 1
    done.faults += [f"{rule.id} can never fire: {text}" for text in checks.faults(rule)]
    done.faults += checks.strangers(rule, known)
    if not beside.is_file():
        done.faults.append(
            f"{rule.id} has no vectors: write {beside.name} beside it, with firing, quiet and boundary ones"
        )
        return
    try:
        stories = vectors.parse(rules.text_of(beside))
    except (tomllib.TOMLDecodeError, ValidationError, UnicodeDecodeError) as error:
        done.faults.append(f"{beside.name}: {first_fault(error)}")
        return
    done.vectors += len(stories)
    done.faults += vectors.faults(rule, stories)


def read_rule(name: str, book: Book, limit: float | None, clear: float | None, for_s: float | None) -> Rule:
    """A rule by id or by its file, with other figures if given.

    Raises
    ------
    RuleError
        When there is none, or the figures do not fit.
    """
    rule = book.rules.get(name)
    if rule is None:
        path = Path(name)
        if not path.is_file():
            raise RuleError(f"{name!r} is neither a rule in force nor a file; `vitalgate rules list` shows the rules")
        rule = rules.parse(rules.text_of(path), name)
    if limit is None and clear is None and for_s is None:
        return rule
    try:
        rule = with_override(rule, Override(limit=limit, clear=clear, for_s=for_s))
    except ValidationError as error:
        raise RuleError(first_fault(error)) from error
    dead = checks.faults(rule)
    if dead:
        raise RuleError(f"so changed, {rule.id} can never fire: {'; '.join(dead)}")
    return rule


def explain(
    book: Book,
    own: Mapping[str, Any],
    cohorts: Iterable[tuple[str, Mapping[str, Any]]],
    zones: Zones,
    now_us: int,
    only: str | None = None,
) -> dict[str, Any]:
    """Each rule as it is for a patient now: state, conditions in words, and why."""
    cohorts = list(cohorts)
    read = profile.read(own, cohorts, zones)
    personal, trouble = book.with_profile(read)
    rows = []
    for name in book.ranked:
        if only not in (None, name):
            continue
        variant = personal.variant_at(name, now_us)
        unmet = checks.unmet(book.rules[name], read)
        because = _because(read.overrides.get(name, []), variant, now_us) + unmet
        rule = book.rules[name] if variant is None else variant.rule
        because += [f"it can never fire: {text}" for text in checks.faults(rule)]
        rows.append(
            {
                "rule": name, "priority": rule.priority, "title": rule.title, "version": rule.version,
                "state": "off" if variant is None else "no data" if unmet else "own" if variant.override else "shipped",
                "conditions": [words(condition) for condition in rule.when], "because": because,
                "suppressed_by": personal.suppressors.get(name, []),
            }
        )  # fmt: skip
    facts = {name: values[-1][1] for name, values in read.facts.items()}
    return {"rules": rows, "facts": facts, "cohorts": [name for name, _ in cohorts], "trouble": trouble}


def _because(overrides: list[Override], variant: Variant | None, now_us: int) -> list[str]:
    told = []
    for override in overrides:
        begin, end = profile.span(override)
        when = "in force" if begin <= now_us < end else "to come" if begin > now_us else "over"
        if when == "in force" and variant is not None and variant.override is not override:
            when = "behind another"
        since = f"from {override.from_ or 'ever'} to {override.to or 'further notice'}"
        what = "switched off" if not override.enabled else ", ".join(
            f"{name} {number(value)}"
            for name, value in (("limit", override.limit), ("clear", override.clear), ("for_s", override.for_s))
            if value is not None
        )  # fmt: skip
        if override.quiet_hours:
            what = f"{what}, quiet {override.quiet_hours}".removeprefix(", ")
        told.append(f"{when}: {what}, {since}, by {override.author or '?'}: {override.reason or '?'}")
    return told


def words(c: AnyCondition) -> str:
    """A condition in words."""
    if isinstance(c, Threshold):
        sides = (("below", c.below), ("at most", c.at_most), ("above", c.above), ("at least", c.at_least))
        side = next(
            (f"{name} {number(value)}" for name, value in sides if value is not None), f"{c.code_at_least} or worse"
        )
        share = f" times {c.share_of}" if c.share_of else ""
        lasting = f" for {number(c.for_s)} s" if c.for_s else ""
        return f"{c.metric} {side}{share} {c.unit}{lasting}".replace("  ", " ").strip()
    if isinstance(c, Trend):
        how = f"up {number(c.rise)}" if c.rise is not None else f"down {number(c.fall)}"
        return f"{c.metric} {how} {c.unit} within {number(c.within_s / 3600)} h"
    if isinstance(c, Event):
        return (
            f"{c.event}{'' if c.limit is None else f' ({number(c.limit)} {c.unit})'}, over after {number(c.quiet_s)} s"
        )
    if isinstance(c, Flagged):
        return f"flagged {' or '.join(c.flags)} for {number(c.for_s)} s"
    if isinstance(c, Silent):
        return f"{c.silent} silent for {number(silence_s(c) / 60)} min"
    if isinstance(c, Score):
        return "NEWS2: one parameter scores three" if c.red else f"NEWS2 at least {number(c.limit)}"
    assert isinstance(c, Day)
    side = f" below {number(c.below)}" if c.below is not None else f" above {number(c.above)}" if c.above else ""
    return f"{c.day} of {c.metric}{side} in a local day at least {number(c.at_least)}"
