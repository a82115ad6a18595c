"""What a session of cardiac rehabilitation came to, from heart rates and power that were measured during it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import fmean
from typing import Any, Final

Series = Sequence[tuple[datetime, float]]
"""(time, value), in order of time."""

HOLD: Final = timedelta(seconds=15)
"""A value counts until the next, at most for so long: what lies beyond is not covered."""
WINDOW: Final = timedelta(seconds=10)
"""Of which the highest mean is the peak, and the mean at the end of exercise and of its first minute after."""
RECOVERY: Final = timedelta(minutes=1)
"""Heart rate recovery is the fall in the first minute after exercise (Cole et al., N Engl J Med 1999;341:1351)."""


def summary(
    rates: Series, power: Series, start: datetime, stop: datetime, low: float | None = None, high: float | None = None
) -> dict[str, Any]:
    """The fields of SessionDetails that can be told, by their outside names; a field without data is left out.

    Parameters
    ----------
    rates
        Heart rate in /min, from the start until at least a minute after the stop, for the recovery.
    power
        Of the ergometer, W.
    start, stop
        Of the exercise.
    low, high
        The target zone, /min, both ends included.
    """
    inside = [(time, value) for time, value in rates if start <= time < stop]
    held = _held(inside, stop)
    told: dict[str, Any] = {}
    covered = sum(held)
    if covered > 0:
        mean = sum(value * seconds for (_, value), seconds in zip(inside, held, strict=True)) / covered
        told["meanHeartRate"] = round(mean, 1)
        told["peakHeartRate"] = round(max(_window_means(inside)), 1)
        told["coverage"] = round(min(1.0, covered / (stop - start).total_seconds()), 3)
        if low is not None and high is not None:
            told["timeInZoneS"] = round(
                sum(seconds for (_, value), seconds in zip(inside, held, strict=True) if low <= value <= high), 1
            )
        end, later = _mean_at(rates, stop - WINDOW, stop), _mean_at(rates, stop + RECOVERY - WINDOW, stop + RECOVERY)
        if end is not None and later is not None:
            told["recoveryHeartRate"] = round(end - later, 1)
    worked = [(time, value) for time, value in power if start <= time < stop]
    if worked:
        told["meanPower"] = round(fmean(value for _, value in worked), 1)
        told["peakPower"] = round(max(value for _, value in worked), 1)
    return told


def _held(series: Series, stop: datetime) -> list[float]:
    """Seconds for which each value counts."""
    if not series:
        return []
    following = [*(time for time, _ in series[1:]), stop]
    return [
        max(0.0, min(after - time, HOLD).total_seconds())
        for (time, _), after in zip(series, following, strict=True)
    ]  # fmt: skip


def _window_means(series: Series) -> list[float]:
    """The mean over the window that ends with each value."""
    means, first = [], 0
    for place, (time, _) in enumerate(series):
        while time - series[first][0] >= WINDOW:
            first += 1
        means.append(fmean(value for _, value in series[first : place + 1]))
    return means


def _mean_at(series: Series, start: datetime, stop: datetime) -> float | None:
    values = [value for time, value in series if start <= time < stop]
    return fmean(values) if values else None
