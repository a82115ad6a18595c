"""One alert rule as it stands in a rule file, validated; and a patient's own figures for it."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from vitalgate.alerts.conditions import (
    AnyCondition,
    Condition,
    Day,
    Event,
    Flagged,
    Part,
    Score,
    Seconds,
    Silent,
    Threshold,
    Trend,
)

#: Alarm priorities of IEC 60601-1-8.
Priority = Literal["high", "medium", "low"]
#: Physiological: from the patient. Technical: from the equipment (IEC 60601-1-8).
Kind = Literal["physiological", "technical"]
ORDER: dict[str, int] = {"high": 3, "medium": 2, "low": 1}
#: What a rule's text may name.
FILLED = ("value", "unit", "limit", "minutes", "seconds", "code", "note", "share")


class Rule(Part):
    """A rule file's content."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)
    version: int = Field(ge=1)
    title: str = Field(min_length=3, max_length=80)
    priority: Priority
    kind: Kind = "physiological"
    text: str = Field(description="Plain sentence; {value}, {unit}, {limit}, {minutes}, … are filled in.")
    combine: Literal["any", "all"] = Field("any", description="Whether one of the conditions is enough.")
    latched: bool = Field(False, description="Once raised it stays until somebody acknowledges it.")
    settle_s: Seconds = Field(0.0, description="Raised again within this time after it was over, it is the same alert.")
    suppresses: tuple[str, ...] = Field((), description="Rules that say nothing more while this one is raised.")
    rationale: str = Field(min_length=10)
    source: str = Field(min_length=5)
    sign_off: str = Field(min_length=10, description="What a clinician must decide before use.")
    when: tuple[Condition, ...] = Field(min_length=1, max_length=8)

    @model_validator(mode="after")
    def _fits(self) -> Rule:
        try:
            self.text.format(**dict.fromkeys(FILLED, "1"))
        except (KeyError, IndexError, ValueError) as error:
            known = ", ".join(FILLED)
            raise ValueError(f"{self.id}: text names {error}; only {known} can be filled in") from error
        if self.id in self.suppresses:
            raise ValueError(f"{self.id}: it suppresses itself; take it out of `suppresses`")
        if len(self.when) > 1 and any(isinstance(c, Score) for c in self.when):
            raise ValueError(f"{self.id}: a score stands alone; make a rule of its own for the other conditions")
        return self


class Override(Part):
    """What a patient, or a cohort, has instead of a rule's own figures.

    ``limit`` and ``clear`` apply to all its conditions. It is in force for event times in [from, to).
    """

    enabled: bool = True
    limit: float | None = None
    clear: float | None = None
    for_s: Seconds | None = None
    quiet_hours: str = Field(
        "",
        description="HH:MM-HH:MM of the patient's local day: raised then, it is silenced until they are over.",
        pattern=r"^(([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?$",
    )
    from_: str | None = Field(None, alias="from", description="RFC 3339; without it, always.")
    to: str | None = Field(None, description="RFC 3339, excluded; without it, until further notice.")
    author: str = ""
    reason: str = ""
    at: str = Field("", description="When it was set, RFC 3339.")

    @model_validator(mode="after")
    def _consistent(self) -> Override:
        if self.quiet_hours and self.quiet_hours[:5] == self.quiet_hours[6:]:
            raise ValueError(f"quiet_hours {self.quiet_hours} last no time; give another end, or enabled = false")
        return self


def with_override(rule: Rule, override: Override) -> Rule:
    """The rule with a patient's own limits.

    Raises
    ------
    ValueError
        When the result is no valid rule (a clear value on the wrong side of the limit, say).
    """
    return rule.model_copy(update={"when": tuple(_changed(condition, override) for condition in rule.when)})


_LIMITS = ("below", "at_most", "above", "at_least", "rise", "fall", "event")


def _changed(condition: AnyCondition, override: Override) -> AnyCondition:
    if isinstance(condition, Flagged | Silent):
        if override.for_s is None:
            return condition
        name = "for_s" if isinstance(condition, Flagged) else "at_least_s"
        return type(condition).model_validate(condition.model_dump() | {name: override.for_s})
    data = condition.model_dump(exclude_none=True)
    if isinstance(condition, Day):
        return Day.model_validate(data if override.limit is None else data | {"at_least": override.limit})
    if override.limit is not None and not data.get("code_at_least"):
        name = next((k for k in _LIMITS if k in data), "at_least")
        if name == "event":
            name = "at_least"
        shift = override.limit - data.get(name, override.limit)
        data[name] = override.limit
        # Without a clear value of its own the hysteresis keeps its width.
        if override.clear is None and "clear" in data:
            data["clear"] = data["clear"] + shift
            if isinstance(condition, Trend | Score):
                data["clear"] = max(0.0, data["clear"])
    if override.clear is not None and not isinstance(condition, Event):
        data["clear"] = override.clear
    if override.for_s is not None and isinstance(condition, Threshold):
        data["for_s"] = override.for_s
    return type(condition).model_validate(data)


def number(value: float | None) -> str:
    """A value as people write it: one decimal from 10 on, two below, no trailing zeros."""
    if value is None or not math.isfinite(value):
        return "?"
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return text.rstrip("0").rstrip(".")


__all__ = ["ORDER", "Kind", "Override", "Priority", "Rule", "number", "with_override"]
