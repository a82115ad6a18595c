"""Times on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import click

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class _Time(click.ParamType):
    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        text = str(value)
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is not a time such as 2026-11-21T10:00:00+01:00 or 2026-11-21", param, ctx)
        if parsed.tzinfo is None and not _DATE.fullmatch(text):
            self.fail(f"{text!r} has no UTC offset; write {text}Z for UTC, or 2026-11-21T10:00:00+01:00", param, ctx)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


#: RFC 3339 time with its offset, or a date: midnight UTC.
TIME = _Time()
