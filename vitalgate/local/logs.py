"""Log files that do not grow for ever.

Children write to their files directly, so that a log line costs the supervisor nothing and survives it. A file above
the limit is copied to NAME.log.1 and cut to nothing: children append, so they go on at its new end.
"""

from __future__ import annotations

import shutil
from pathlib import Path

KEEP = 3


def rotate(path: Path, limit: int) -> bool:
    """Move a log above ``limit`` bytes out of the way; True when it was."""
    try:
        if path.stat().st_size <= limit:
            return False
    except FileNotFoundError:
        return False
    for n in range(KEEP - 1, 0, -1):
        older = path.with_name(f"{path.name}.{n}")
        if older.is_file():
            older.replace(path.with_name(f"{path.name}.{n + 1}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    path.with_name(f"{path.name}.1").chmod(0o600)
    with path.open("r+b") as stream:
        stream.truncate(0)
    return True


def tail(path: Path, lines: int = 15, *, most: int = 16_384) -> str:
    """The last lines of a log."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - most))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
