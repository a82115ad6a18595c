"""One simulated person: every vital sign as a pure function of the seed and of time, hanging together.

Activity and the hour of the day move heart, breathing, pressure and temperature; fever and lack of oxygen speed up
heart and breath; meals move glucose. A scenario lays its changes over that: ``add`` joins before the couplings (a fever
of 2 degrees brings its own fast heart), ``set`` decides the final value.

Sources: circadian amplitudes and the 8.5 beats per degree of fever are textbook orders of magnitude, not fitted to
data; spirometry follows the ECSC equations (Quanjer et al. 1993, Eur Respir J 6 Suppl 16:5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitalgate.simulators.noise import Float, normal, smooth, stream, uniform

VITALS = (
    "heart_rate", "respiration_rate", "spo2", "systolic", "diastolic", "temperature", "weight", "glucose",
    "perfusion", "activity",
)  # fmt: skip
"""What a scenario may change: /min, /min, %, mm[Hg], mm[Hg], Cel, kg, mg/dL, %, 0..1."""

_DAY = 86400.0
_LIMITS = {
    "heart_rate": (20.0, 230.0),
    "respiration_rate": (3.0, 60.0),
    "spo2": (50.0, 100.0),
    "perfusion": (0.1, 20.0),
    "activity": (0.0, 1.0),
}


@dataclass(frozen=True)
class Change:
    """A scenario's hand on one vital sign: linear between points, nothing before the first, the last after it."""

    what: str
    mode: Literal["set", "add"]
    points: tuple[tuple[float, float], ...]
    """(seconds since the scenario's start, value)."""

    def __post_init__(self) -> None:
        if self.what not in VITALS:
            raise ValueError(f"{self.what!r} cannot be changed; one of {', '.join(VITALS)} can")
        times = [at for at, _ in self.points]
        if not times or times != sorted(times):
            raise ValueError(f"the points of the change of {self.what} must be in order of time, got {times}")


@dataclass(frozen=True)
class Rhythm:
    """A stretch of another rhythm: `af` (atrial fibrillation), `pause` (no beats), `ectopy` (early wide beats)."""

    kind: Literal["af", "pause", "ectopy"]
    start: float
    """Seconds since the scenario's start."""
    seconds: float
    share: float = 0.1
    """Share of the beats that come early (ectopy)."""

    def __post_init__(self) -> None:
        if self.kind not in ("af", "pause", "ectopy"):
            raise ValueError(f"rhythm {self.kind!r} is not known; one of af, pause, ectopy is")
        if self.seconds <= 0:
            raise ValueError(f"a rhythm of {self.seconds} seconds never happens; give it more than 0")


@dataclass(frozen=True)
class Body:
    """What stays the same in a person; drawn from the seed unless given."""

    age: float
    male: bool
    height_m: float
    heart_rate: float
    respiration_rate: float
    spo2: float
    systolic: float
    diastolic: float
    temperature: float
    weight: float
    glucose: float
    zone_h: float = 1.0
    """Hours that the person's clock is ahead of UTC, for the hour of the day."""


_UNDRAWN = Body(0, False, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def draw_body(seed: int, given: Mapping[str, float] | None = None) -> Body:
    """A grown-up between 45 and 88 with ordinary values at rest; `given` replaces any of them."""
    given = dict(given or {})

    def between(name: str, low: float, high: float) -> float:
        share = float(uniform(stream(seed, name), np.zeros(1, np.int64))[0])
        return float(given.pop(name, round(low + share * (high - low), 2)))

    male = bool(given.pop("male", between("sex", 0, 1) > 0.5))
    age = between("age", 45, 88)
    height = between("height_m", 1.66, 1.9) if male else between("height_m", 1.54, 1.76)
    body = Body(
        age=age, male=male, height_m=height,
        heart_rate=between("heart_rate", 60, 74), respiration_rate=between("respiration_rate", 13, 16),
        spo2=between("spo2", 96.3, 98.3),
        systolic=between("systolic", 114, 134), diastolic=between("diastolic", 70, 82),
        temperature=between("temperature", 36.4, 36.8), weight=between("weight", 22, 29) * height**2
        if "weight" not in given else float(given.pop("weight")),
        glucose=between("glucose", 88, 104), zone_h=float(given.pop("zone_h", 1.0)),
    )  # fmt: skip
    if given:
        raise ValueError(f"a body has no {', '.join(sorted(given))}")
    return body


@dataclass(frozen=True, eq=False)
class Person:
    """Vital signs of one person at any time; all arrays in, arrays out, times in seconds since 1970 UTC."""

    seed: int
    origin: float = 0.0
    """When the scenario starts: its changes count from here."""
    changes: tuple[Change, ...] = ()
    rhythms: tuple[Rhythm, ...] = ()
    body: Body = _UNDRAWN
    _moment: dict[float, dict[str, Float]] = field(default_factory=dict, repr=False)
    """Vital signs of the moment asked for last: a device asks for several, and they depend on one another."""

    def __post_init__(self) -> None:
        if self.body is _UNDRAWN:
            object.__setattr__(self, "body", draw_body(self.seed))

    def vital(self, name: str, time_s: ArrayLike) -> Float:
        """The vital sign at those times, with the scenario's changes. Raises KeyError for an unknown name."""
        time = np.atleast_1d(np.asarray(time_s, float))
        if time.size > 1:
            return self._vital(name, time)
        at = float(time[0])
        now = self._moment.get(at)
        if now is None:
            self._moment.clear()
            now = self._moment[at] = {}
        if name not in now:
            now[name] = self._vital(name, time)
        return now[name]

    def _vital(self, name: str, time: Float) -> Float:
        value = self._natural(name, time)
        for change in self.changes:
            if change.what == name and change.mode == "set":
                value = self._set(change, time, value)
        low, high = _LIMITS.get(name, (-np.inf, np.inf))
        return np.clip(value, low, high)

    def one(self, name: str, time_s: float) -> float:
        """The vital sign at one time."""
        return float(self.vital(name, time_s)[0])

    # --- the parts ---------------------------------------------------------------------------------------------------

    def hour(self, time: Float) -> Float:
        """Local hour of the day, 0..24."""
        return np.asarray((time / 3600 + self.body.zone_h) % 24)

    def circadian(self, time: Float) -> Float:
        """-1 at five in the morning, 1 at five in the afternoon."""
        return np.asarray(np.cos(2 * np.pi * (self.hour(time) - 17) / 24))

    def _natural(self, name: str, time: Float) -> Float:
        natural = getattr(self, f"_{name}", None)
        if natural is None:
            raise KeyError(f"a person has no {name!r}; there are {', '.join(VITALS)}")
        value = np.asarray(natural(time), float)
        for change in self.changes:
            if change.what == name and change.mode == "add":
                points = np.asarray(change.points)
                since = time - self.origin
                value = value + np.where(since >= points[0, 0], np.interp(since, points[:, 0], points[:, 1]), 0.0)
        return value

    def _set(self, change: Change, time: Float, natural: Float) -> Float:
        points = np.asarray(change.points)
        since = time - self.origin
        laid = np.interp(since, points[:, 0], points[:, 1])
        return np.where(since >= points[0, 0], laid, natural)

    def _wander(self, name: str, time: Float, period_s: float) -> Float:
        return smooth(stream(self.seed, name), time, period_s)

    def _activity(self, time: Float) -> Float:
        hour = self.hour(time)
        awake = np.clip(np.minimum(hour - 6.5, 22.5 - hour), 0, 1)
        # At home: a walk or the stairs, no sport; 1 would be as hard as somebody can.
        return np.asarray(awake * np.clip(0.35 * self._wander("activity", time, 600.0) - 0.15, 0, 0.6))

    def _temperature(self, time: Float) -> Float:
        return np.asarray(
            self.body.temperature + 0.25 * self.circadian(time) + 0.2 * self.vital("activity", time)
            + 0.05 * self._wander("temperature", time, 1800.0)
        )  # fmt: skip

    def _spo2(self, time: Float) -> Float:
        return np.asarray(self.body.spo2 - 0.6 * self.vital("activity", time) + 0.35 * self._wander("spo2", time, 90.0))

    def _strain(self, time: Float) -> tuple[Float, Float]:
        """Degrees of fever, and percent of oxygen missing."""
        fever = np.clip(self.vital("temperature", time) - 37.4, 0, 5)
        return fever, np.clip(94 - self.vital("spo2", time), 0, 30)

    def _heart_rate(self, time: Float) -> Float:
        fever, missing = self._strain(time)
        return np.asarray(
            self.body.heart_rate + 4 * self.circadian(time) + 45 * self.vital("activity", time) + 8.5 * fever
            + 0.8 * missing + 1.8 * self._wander("heart_rate", time, 240.0)
        )  # fmt: skip

    def _respiration_rate(self, time: Float) -> Float:
        fever, missing = self._strain(time)
        return np.asarray(
            self.body.respiration_rate + self.circadian(time) * 0.8 + 10 * self.vital("activity", time) + 2.2 * fever
            + 0.5 * missing + 0.6 * self._wander("respiration_rate", time, 120.0)
        )  # fmt: skip

    def _systolic(self, time: Float) -> Float:
        return np.asarray(
            self.body.systolic + 6 * self.circadian(time) + 30 * self.vital("activity", time)
            + 3 * self._wander("systolic", time, 900.0)
        )  # fmt: skip

    def _diastolic(self, time: Float) -> Float:
        return np.asarray(
            self.body.diastolic + 3 * self.circadian(time) + 6 * self.vital("activity", time)
            + 2 * self._wander("diastolic", time, 900.0)
        )  # fmt: skip

    def _weight(self, time: Float) -> Float:
        of_day = 0.35 * (self.circadian(time) + 1) / 2
        return np.asarray(self.body.weight + of_day + 0.15 * self._wander("weight", time, 2 * _DAY))

    def _glucose(self, time: Float) -> Float:
        risen = np.zeros_like(time)
        for meal, size in ((7.5, 32.0), (12.5, 38.0), (18.8, 42.0)):
            after = (self.hour(time) - meal) % 24
            risen += size * after / 0.9 * np.exp(1 - after / 0.9)
        return np.asarray(self.body.glucose + risen + 3 * self._wander("glucose", time, 1800.0))

    def _perfusion(self, time: Float) -> Float:
        return np.asarray(4.0 * np.exp(0.25 * self._wander("perfusion", time, 300.0)))

    # --- the lungs, blown on demand ----------------------------------------------------------------------------------

    def spirometry(self, time_s: float) -> dict[str, float]:
        """Give fvc and fev1 in L, pef in L/min of a forced breath (ECSC equations, with 3 % from blow to blow)."""
        height, age = self.body.height_m, self.body.age
        if self.body.male:
            fvc = 5.76 * height - 0.026 * age - 4.34
            fev1 = 4.30 * height - 0.029 * age - 2.49
            pef = 6.14 * height - 0.043 * age + 0.15
        else:
            fvc = 4.43 * height - 0.026 * age - 2.89
            fev1 = 3.95 * height - 0.025 * age - 2.60
            pef = 5.50 * height - 0.030 * age - 1.11
        blow = 1 + 0.03 * float(normal(stream(self.seed, "blow"), np.array([int(time_s)], np.int64))[0])
        tight = 1 - 0.02 * max(0.0, 94 - self.one("spo2", time_s))
        return {"fvc": fvc * blow, "fev1": fev1 * blow * tight, "pef": pef * 60 * blow * tight}

    def rhythm_at(self, kind: str, time: Float) -> NDArray[np.bool_]:
        """Where the rhythm is in force."""
        inside = np.zeros(len(time), np.bool_)
        for rhythm in self.rhythms:
            if rhythm.kind == kind:
                begin = self.origin + rhythm.start
                inside |= (time >= begin) & (time < begin + rhythm.seconds)
        return inside
