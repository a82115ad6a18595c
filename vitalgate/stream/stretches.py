"""Whose a device was before and after its assignments changed: the stretches of time that change hands. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
END = datetime(9999, 1, 1, tzinfo=UTC)


class Stretch(NamedTuple):
    """Event times in [start, stop) of a device that belong to somebody else now."""

    start: datetime
    stop: datetime
    """`END`: until further notice."""
    before: str | None
    after: str | None


Assigned = Sequence[Mapping[str, Any]]
"""The `assignments` of a registry.assignments record: [{"patient", "from", "to"}]."""


def changed(before: Assigned, after: Assigned) -> list[Stretch]:
    """The stretches whose patient differs between two lists of assignments, in order of time, joined where they can."""
    was, now = _ranges(before), _ranges(after)
    bounds = sorted({moment for start, stop, _ in (*was, *now) for moment in (start, stop)})
    found: list[Stretch] = []
    for start, stop in pairwise(bounds):
        first, second = _at(was, start), _at(now, start)
        if first == second:
            continue
        if found and found[-1].stop == start and (found[-1].before, found[-1].after) == (first, second):
            found[-1] = found[-1]._replace(stop=stop)
        else:
            found.append(Stretch(start, stop, first, second))
    return found


def _ranges(assigned: Assigned) -> list[tuple[datetime, datetime, str]]:
    return [
        (
            BEGINNING if item.get("from") is None else datetime.fromisoformat(item["from"]),
            END if item.get("to") is None else datetime.fromisoformat(item["to"]),
            item["patient"],
        )
        for item in assigned
    ]


def _at(ranges: list[tuple[datetime, datetime, str]], moment: datetime) -> str | None:
    return next((patient for start, stop, patient in ranges if start <= moment < stop), None)
