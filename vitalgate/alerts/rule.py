"""One alert rule as it stands in a rule file, validated."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Alarm priorities of IEC 60601-1-8.
Priority = Literal["high", "medium", "low"]
#: Physiological: from the patient. Technical: from the equipment (IEC 60601-1-8).
Kind = Literal["physiological", "technical"]

Seconds = Annotated[float, Field(ge=0, le=31 * 86400)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Threshold(_Part):
    """Too low or too high for long enough; over when it has been well for long enough.

    With ``for_s`` 0 a single value is enough. Otherwise samples must *span* the time: first and last of an unbroken run
    of bad samples lie at least ``for_s`` apart, and no two neighbours more than ``max_gap_s``. Sparse data therefore
    never fulfils a duration: give a second rule with a critical single value for it.
    """

    metric: str = Field(description="Metric of readings or, with source = 'feature', name of a feature.")
    source: Literal["reading", "feature"] = Field("reading", description="Where the values come from.")
    below: float | None = Field(None, description="Bad when lower than this.")
    at_most: float | None = Field(None, description="Bad when this or lower.")
    above: float | None = Field(None, description="Bad when higher than this.")
    at_least: float | None = Field(None, description="Bad when this or higher.")
    for_s: Seconds = Field(0.0, description="For how long it must be bad; 0: one value is enough.")
    clear: float | None = Field(
        None, description="Well again at this value or better (the limit's other side by default)."
    )
    clear_for_s: Seconds = Field(0.0, description="For how long it must be well before the alert is cleared.")
    max_gap_s: Seconds = Field(60.0, description="Samples further apart than this do not form one run.")
    unit: str = Field("", description="UCUM unit of the limits: the metric's canonical one.")

    @property
    def low(self) -> bool:
        """True for a lower limit."""
        return self.below is not None or self.at_most is not None

    @property
    def limit(self) -> float:
        """The one limit that is given."""
        return next(v for v in (self.below, self.at_most, self.above, self.at_least) if v is not None)

    @property
    def strict(self) -> bool:
        """True when a value equal to the limit is still well."""
        return self.below is not None or self.above is not None

    @model_validator(mode="after")
    def _consistent(self) -> Threshold:
        given = [v for v in (self.below, self.at_most, self.above, self.at_least) if v is not None]
        if len(given) != 1:
            raise ValueError(f"{self.metric}: give exactly one of below, at_most, above, at_least, not {len(given)}")
        if self.clear is not None:
            apart = (self.clear - self.limit) if self.low else (self.limit - self.clear)
            if apart < 0 or (apart == 0 and not self.strict):
                side = "above" if self.low else "below"
                raise ValueError(f"{self.metric}: clear {self.clear} must be {side} limit {self.limit}, or it flaps")
        if self.for_s > 0 and self.max_gap_s <= 0:
            raise ValueError(f"{self.metric}: with for_s {self.for_s} a max_gap_s above 0 is needed, or it never fires")
        return self


class Trend(_Part):
    """Rose (or fell) by so much against the lowest (highest) value of the time before."""

    metric: str
    source: Literal["reading", "feature"] = "reading"
    rise: float | None = Field(None, gt=0, description="Bad when at least this much above the lowest of the window.")
    fall: float | None = Field(None, gt=0, description="Bad when at least this much below the highest of the window.")
    within_s: Annotated[float, Field(gt=0, le=31 * 86400)]
    clear: float | None = Field(None, ge=0, description="Over when the difference is this or less.")
    unit: str = ""

    @property
    def limit(self) -> float:
        """The difference that counts."""
        limit = self.rise if self.rise is not None else self.fall
        assert limit is not None
        return limit

    @model_validator(mode="after")
    def _consistent(self) -> Trend:
        if (self.rise is None) == (self.fall is None):
            raise ValueError(f"{self.metric}: give one of rise and fall")
        if self.clear is not None and self.clear >= self.limit:
            raise ValueError(f"{self.metric}: clear {self.clear} must be below {self.limit}, or the alert flaps")
        return self


class Event(_Part):
    """A rhythm event happened; over when there has been none for ``quiet_s``."""

    event: str = Field(description="Name of the feature, such as event.pause.")
    at_least: float | None = Field(None, description="Only events of at least this value.")
    at_most: float | None = Field(None, description="Only events of at most this value.")
    quiet_s: Annotated[float, Field(gt=0, le=86400)]
    unit: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Event:
        if self.at_least is not None and self.at_most is not None:
            raise ValueError(f"{self.event}: give at most one of at_least and at_most")
        return self

    @property
    def limit(self) -> float | None:
        """The value that counts, or None."""
        return self.at_least if self.at_least is not None else self.at_most


Condition = Threshold | Trend | Event


class Rule(_Part):
    """A rule file's content."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)
    version: int = Field(ge=1)
    title: str = Field(min_length=3, max_length=80)
    priority: Priority
    kind: Kind = "physiological"
    text: str = Field(description="Plain sentence; {value}, {unit}, {limit}, {minutes} and {seconds} are filled in.")
    combine: Literal["any", "all"] = Field("any", description="Whether one of the conditions is enough.")
    rationale: str = Field(min_length=10)
    source: str = Field(min_length=5)
    sign_off: str = Field(min_length=10, description="What a clinician must decide before use.")
    when: tuple[Condition, ...] = Field(min_length=1, max_length=8)

    @model_validator(mode="after")
    def _text_fills(self) -> Rule:
        try:
            self.text.format(value="1", unit="x", limit="2", minutes="3", seconds="4")
        except (KeyError, IndexError, ValueError) as error:
            known = "value, unit, limit, minutes and seconds"
            raise ValueError(f"{self.id}: text names {error}; only {known} can be filled in") from error
        return self


class Override(_Part):
    """What a patient has instead of a rule's own figures; ``limit`` and ``clear`` apply to all its conditions."""

    enabled: bool = True
    limit: float | None = None
    clear: float | None = None
    for_s: Seconds | None = None
    author: str = ""
    reason: str = ""


def with_override(rule: Rule, override: Override) -> Rule:
    """The rule with a patient's own limits.

    Raises
    ------
    ValueError
        When the result is no valid rule (a clear value on the wrong side of the limit, say).
    """
    return rule.model_copy(update={"when": tuple(_changed(condition, override) for condition in rule.when)})


def _changed(condition: Condition, override: Override) -> Condition:
    data = condition.model_dump(exclude_none=True)
    if override.limit is not None:
        name = next(k for k in ("below", "at_most", "above", "at_least", "rise", "fall", "event") if k in data)
        if name == "event":
            name = "at_least"
        shift = override.limit - data.get(name, override.limit)
        data[name] = override.limit
        # Without a clear value of its own the hysteresis keeps its width.
        if override.clear is None and "clear" in data:
            data["clear"] = max(0.0, data["clear"] + shift) if isinstance(condition, Trend) else data["clear"] + shift
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
