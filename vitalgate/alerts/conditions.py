"""The conditions that a rule is made of, as they stand in its file, validated."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from vitalgate.alerts import codes

Seconds = Annotated[float, Field(ge=0, le=31 * 86400)]


class Part(BaseModel):
    """Unknown keys are errors: a misspelt limit must not be passed over."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Threshold(Part):
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
    code_at_least: str = Field("", description="Bad when the coded value is this or worse.")
    share_of: str = Field("", description="Limits are shares of this fact of the patient (pef_best), 0 to 1.")
    for_s: Seconds = Field(0.0, description="For how long it must be bad; 0: one value is enough.")
    clear: float | None = Field(
        None, description="Well again at this value or better (the limit's other side by default)."
    )
    clear_for_s: Seconds = Field(0.0, description="For how long it must be well before the alert is cleared.")
    max_gap_s: Seconds = Field(60.0, description="Samples further apart than this do not form one run.")
    holds_s: Seconds = Field(0.0, description="How long a bad value counts when nothing newer comes; 0: until then.")
    unit: str = Field("", description="UCUM unit of the limits: the metric's canonical one.")

    @property
    def low(self) -> bool:
        """True for a lower limit."""
        return self.below is not None or self.at_most is not None

    @property
    def limit(self) -> float:
        """The one limit that is given."""
        if self.code_at_least:
            return float(codes.place(self.metric, self.code_at_least) or 0)
        return next(v for v in (self.below, self.at_most, self.above, self.at_least) if v is not None)

    @property
    def strict(self) -> bool:
        """True when a value equal to the limit is still well."""
        return self.below is not None or self.above is not None

    @model_validator(mode="after")
    def _consistent(self) -> Threshold:
        given = [v for v in (self.below, self.at_most, self.above, self.at_least) if v is not None]
        count = len(given) + bool(self.code_at_least)
        if count != 1:
            raise ValueError(f"{self.metric}: give exactly one of below, at_most, above, at_least, not {count}")
        if self.code_at_least and not codes.place(self.metric, self.code_at_least):
            known = ", ".join(list(codes.scale(self.metric) or ())[1:]) or "no code with an order"
            raise ValueError(f"{self.metric}: code_at_least {self.code_at_least!r} is not one of {known}")
        if self.clear is not None:
            apart = (self.clear - self.limit) if self.low else (self.limit - self.clear)
            if apart < 0 or (apart == 0 and not self.strict):
                side = "above" if self.low else "below"
                raise ValueError(f"{self.metric}: clear {self.clear} must be {side} limit {self.limit}, or it flaps")
        if self.for_s > 0 and self.max_gap_s <= 0:
            raise ValueError(f"{self.metric}: with for_s {self.for_s} a max_gap_s above 0 is needed, or it never fires")
        return self


class Trend(Part):
    """Rose (or fell) by so much against the lowest (highest) value of the time before."""

    metric: str
    source: Literal["reading", "feature"] = "reading"
    rise: float | None = Field(None, gt=0, description="Bad when at least this much above the lowest of the window.")
    fall: float | None = Field(None, gt=0, description="Bad when at least this much below the highest of the window.")
    within_s: Annotated[float, Field(gt=0, le=31 * 86400)]
    clear: float | None = Field(None, ge=0, description="Over when the difference is this or less.")
    holds_s: Seconds = Field(0.0, description="How long it counts when nothing newer comes; 0: until then.")
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


class Event(Part):
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


class Flagged(Part):
    """Readings bear one of these device flags for long enough; over when none has for ``holds_s``."""

    flags: tuple[str, ...] = Field(min_length=1, max_length=16)
    for_s: Seconds = Field(0.0, description="Flagged readings must span this time.")
    max_gap_s: Seconds = Field(120.0, description="Flagged readings further apart than this do not form one run.")
    holds_s: Annotated[float, Field(gt=0, le=86400)] = Field(description="Over this long after the last flagged one.")
    unit: str = ""

    @property
    def limit(self) -> None:
        """There is none."""
        return


class Silent(Part):
    """Nothing came from a device of this kind for longer than its cadence allows."""

    silent: str = Field(description="Kind of device.")
    missed: float = Field(10.0, ge=1, description="So many intervals of the kind's quickest cadence in a row.")
    at_least_s: Seconds = Field(600.0, description="And at least this long.")
    unit: str = "s"

    @property
    def limit(self) -> float | None:
        """The time is worked out from the catalogue."""
        return None


class Score(Part):
    """NEWS2 from the newest values that are not too old."""

    score: Literal["news2"]
    at_least: int | None = Field(None, ge=1, le=20, description="Total (a lower bound while inputs are missing).")
    red: bool = Field(False, description="One parameter scores three.")
    clear: int | None = Field(None, ge=0, le=19, description="Over at this total or less.")
    inputs: int = Field(1, ge=1, le=7, description="Said only when so many of the seven parameters are fresh.")
    unit: str = "{score}"

    @property
    def limit(self) -> float:
        """The total that counts; for a red score, three."""
        return 3.0 if self.at_least is None else float(self.at_least)

    @model_validator(mode="after")
    def _consistent(self) -> Score:
        if (self.at_least is None) == (not self.red):
            raise ValueError("give one of at_least and red = true")
        if self.clear is not None and self.clear >= self.limit:
            raise ValueError(f"clear {self.clear} must be below {self.limit}, or the alert flaps")
        return self


class Day(Part):
    """A total over the patient's local day has been reached; over when the day is."""

    metric: str
    source: Literal["reading", "feature"] = "reading"
    day: Literal["count", "sum"] = Field(description="What is totalled: how many such values, or their sum.")
    below: float | None = Field(None, description="Only values lower than this.")
    above: float | None = Field(None, description="Only values higher than this.")
    at_least: float = Field(gt=0, description="The total that counts.")
    unit: str = ""

    @property
    def limit(self) -> float:
        """The total that counts."""
        return self.at_least

    @model_validator(mode="after")
    def _consistent(self) -> Day:
        if self.below is not None and self.above is not None and self.below <= self.above:
            raise ValueError(f"{self.metric}: no value is below {self.below} and above {self.above}")
        return self


def _kind(data: Any) -> str:
    there = data.keys() if isinstance(data, dict) else type(data).model_fields
    for name, tag in (
        ("event", "event"),
        ("flags", "flagged"),
        ("silent", "silent"),
        ("score", "score"),
        ("day", "day"),
    ):
        if name in there:
            return tag
    return "trend" if "within_s" in there else "threshold"


Condition = Annotated[
    Annotated[Threshold, Tag("threshold")]
    | Annotated[Trend, Tag("trend")]
    | Annotated[Event, Tag("event")]
    | Annotated[Flagged, Tag("flagged")]
    | Annotated[Silent, Tag("silent")]
    | Annotated[Score, Tag("score")]
    | Annotated[Day, Tag("day")],
    Discriminator(_kind),
]
AnyCondition = Threshold | Trend | Event | Flagged | Silent | Score | Day
