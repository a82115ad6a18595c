"""What a device would read off a person: each metric of the catalogue from the one physiology.

A metric that nothing here knows (a new kind is one data file and no code) gets a steady value from the middle of what
the catalogue calls usual, so that a new kind can be simulated on the day it is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vitalgate.simulators.heart import pulse_rate
from vitalgate.simulators.noise import normal, stream
from vitalgate.simulators.physiology import Person

Value = float | str | None
"""A number in the canonical unit, a code, or None when the sensor has nothing to show."""

_STEPS_PER_MIN = 115.0
_STEP_M = 0.72


def _rate(person: Person, time: float, _since: float) -> Value:
    value = pulse_rate(person, time)
    return None if math.isnan(value) else value


def _vital(name: str) -> Callable[[Person, float, float], Value]:
    return lambda person, time, _since: person.one(name, time)


def _mean_pressure(person: Person, time: float, _since: float) -> Value:
    low, high = person.one("diastolic", time), person.one("systolic", time)
    return low + (high - low) / 3


def _bmi(person: Person, time: float, _since: float) -> Value:
    return person.one("weight", time) / person.body.height_m**2


def _body_fat(person: Person, time: float, since: float) -> Value:
    # Deurenberg, Weststrate, Seidell 1991, Br J Nutr 65:105.
    bmi = _bmi(person, time, since)
    assert isinstance(bmi, float)
    return 1.20 * bmi + 0.23 * person.body.age - 10.8 * person.body.male - 5.4


def _spirometry(name: str) -> Callable[[Person, float, float], Value]:
    return lambda person, time, _since: person.spirometry(time)[name]


def _tiffeneau(person: Person, time: float, _since: float) -> Value:
    blow = person.spirometry(time)
    return 100 * blow["fev1"] / blow["fvc"]


def _mean_activity(person: Person, start: float, stop: float) -> float:
    points = max(2, min(300, int((stop - start) / 60) + 2))
    return float(person.vital("activity", np.linspace(start, stop, points)).mean())


def _steps(person: Person, time: float, since: float) -> Value:
    return _STEPS_PER_MIN * (time - since) / 60 * min(1.0, 2 * _mean_activity(person, since, time))


def _midnight(person: Person, time: float) -> float:
    return time - float(person.hour(np.array([time]))[0]) * 3600


def _of_day(amount: Callable[[Person, float, float], Value]) -> Callable[[Person, float, float], Value]:
    return lambda person, time, _since: amount(person, time, _midnight(person, time))


def _distance(person: Person, time: float, since: float) -> Value:
    steps = _steps(person, time, since)
    assert isinstance(steps, float)
    return _STEP_M * steps


def _energy(person: Person, time: float, since: float) -> Value:
    # One kcal per kg and hour at rest is left out: bands show what activity adds.
    return 4.0 * person.body.weight * (time - since) / 3600 * _mean_activity(person, since, time)


def _exercise(person: Person, time: float, top: float, spread: float) -> float:
    effort = max(0.25, person.one("activity", time))
    wobble = float(normal(stream(person.seed, "pedal"), np.array([int(time)], np.int64))[0])
    return max(0.0, top * effort + spread * wobble)


def _rr(person: Person, time: float) -> float:
    rate = pulse_rate(person, time)
    return 1.0 if math.isnan(rate) else 60 / rate


def _rhythm(person: Person, time: float, _since: float) -> Value:
    return "atrial_fibrillation" if person.rhythm_at("af", np.array([time]))[0] else "sinus"


def _battery(person: Person, time: float, _since: float) -> Value:
    return 100 - (time / 3600 * 0.4 + person.seed % 60) % 80


_KNOWN: dict[str, Callable[[Person, float, float], Value]] = {
    "heart_rate": _rate,
    "pulse_rate": _rate,
    "exercise_heart_rate": _rate,
    "resting_heart_rate": lambda person, _time, _since: person.body.heart_rate,
    "spo2": _vital("spo2"),
    "perfusion_index": _vital("perfusion"),
    "respiration_rate": _vital("respiration_rate"),
    "bp_systolic": _vital("systolic"),
    "bp_diastolic": _vital("diastolic"),
    "bp_mean": _mean_pressure,
    "temperature": _vital("temperature"),
    "weight": _vital("weight"),
    "bmi": _bmi,
    "body_fat": _body_fat,
    "glucose": _vital("glucose"),
    "fev1": _spirometry("fev1"),
    "fvc": _spirometry("fvc"),
    "pef": _spirometry("pef"),
    "fev1_fvc": _tiffeneau,
    "power": lambda person, time, _since: _exercise(person, time, 90, 3),
    "cadence": lambda person, time, _since: 45 + _exercise(person, time, 20, 2),
    "speed": lambda person, time, _since: 3 + _exercise(person, time, 2, 0.1),
    "steps": _steps,
    "steps_day": _of_day(_steps),
    "distance": _distance,
    "distance_day": _of_day(_distance),
    "energy": _energy,
    "energy_day": _of_day(_energy),
    "rr_interval": lambda person, time, _since: 1000 * _rr(person, time),
    "pr_interval": lambda person, time, _since: 160.0 + person.seed % 20,
    "qrs_duration": lambda person, time, _since: 88.0 + person.seed % 16,
    "qt_interval": lambda person, time, _since: (400.0 + person.seed % 20) * math.sqrt(_rr(person, time)),
    "qtc_interval": lambda person, _time, _since: 400.0 + person.seed % 20,
    "oxygen_flow": lambda _person, _time, _since: 0.0,
    "oxygen_concentration": lambda _person, _time, _since: 21.0,
    "rhythm": _rhythm,
    "consciousness": lambda _person, _time, _since: "A",
    "oxygen": lambda _person, _time, _since: "air",
    "battery": _battery,
}


def measure(person: Person, metric: str, time: float, since: float) -> Value:
    """What a sensor shows.

    Parameters
    ----------
    metric
        A metric of the catalogue. Symptoms are all absent.
    time, since
        Seconds since 1970 UTC: now, and the previous reading of the metric (for amounts since then).

    Raises
    ------
    KeyError
        When nothing here knows the metric; `middle` and `quiet_code` serve for those.
    """
    if metric.startswith("symptom."):
        return "none"
    return _KNOWN[metric](person, time, since)


def knows(metric: str) -> bool:
    """Whether `measure` answers for the metric."""
    return metric in _KNOWN or metric.startswith("symptom.")


def middle(plausible: Sequence[float], unusual_low: float | None, unusual_high: float | None, steady: float) -> float:
    """A usual value of an unknown metric: the middle of the usual range, moved by `steady` (-1..1) of a tenth of it."""
    low = plausible[0] if unusual_low is None else unusual_low
    high = plausible[1] if unusual_high is None else unusual_high
    return (low + high) / 2 + steady * (high - low) / 10


def quiet_code(codes: Mapping[str, bool]) -> str:
    """The first code of an unknown coded metric that is not unusual. `codes`: code to whether it is unusual."""
    return next((code for code, unusual in codes.items() if not unusual), next(iter(codes)))
