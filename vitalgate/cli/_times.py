"""Times on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import click


class _Time(click.ParamType):
    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            parsed = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time such as 2026-11-21T10:00:00+01:00 or 2026-11-21", param, ctx)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


#: RFC 3339 time or date; without an offset it is UTC.
TIME = _Time()
