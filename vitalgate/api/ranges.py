"""HTTP byte ranges (RFC 9110, section 14), one range at a time. Pure."""

from __future__ import annotations

import re

from vitalgate.api.problems import Problem

_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


def parse(header: str | None, size: int) -> tuple[int, int] | None:
    """[first, stop) of a Range header; None for the whole: no header, or one that a server may ignore.

    Raises
    ------
    Problem
        416 when no byte of it is there.
    """
    match = _RANGE.match(header.strip()) if header else None
    if match is None or not (match[1] or match[2]) or max(len(match[1]), len(match[2])) > 18:
        return None
    if not match[1]:
        first, stop = max(0, size - int(match[2])), size
    else:
        first = int(match[1])
        stop = min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < first:
            return None
    if first >= stop:
        raise Problem(
            416, "range-not-satisfiable", f"The file has {size} bytes.", headers={"Content-Range": f"bytes */{size}"}
        )
    return first, stop
