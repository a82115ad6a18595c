"""Times in query strings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from vitalgate.api.problems import Problem

_MOMENT = TypeAdapter(AwareDatetime)
_LEAST, _MOST = datetime(1900, 1, 2, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)


def moment(text: str, name: str) -> datetime:
    """An RFC 3339 time with its offset, in UTC. Raises Problem 400."""
    try:
        found = _MOMENT.validate_python(text.replace(" ", "+"))  # a plus sign that was not escaped
        if not _LEAST <= found <= _MOST:
            raise ValueError
        return found.astimezone(UTC)
    except (ValidationError, ValueError, OverflowError) as error:
        raise Problem(
            400, "bad-parameter", f"{name} is {text[:40]!r}; it must be a time such as 2026-11-21T10:00:00Z."
        ) from error


def stretch(start: str, stop: str, longest: timedelta, advice: str) -> tuple[datetime, datetime]:
    """`from` and `to` of a query. Raises Problem 400 when they are out of order or too far apart."""
    begin, end = moment(start, "from"), moment(stop, "to")
    if begin >= end:
        raise Problem(400, "bad-parameter", "from must lie before to.")
    if end - begin > longest:
        raise Problem(400, "too-long-a-time", f"from and to are {end - begin} apart; {longest} are allowed. {advice}")
    return begin, end
