"""Log files that do not grow for ever.

Children write to their files directly, so that a log line costs the supervisor nothing and survives it. A file above
the limit is copied to NAME.log.1 and cut to nothing: children append, so they go on at its new end.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
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


class Sieve:
    """Carries the lines worth keeping from a chatty process's output to its log.

    The process writes to a file, never to a pipe, so that it cannot be held up by a reader that is slow or stopped.
    """

    _CUT_ABOVE = 4 * 1_048_576

    def __init__(self, log: Path, keep: Callable[[bytes], bool], count: bytes = b"Denied PUBLISH") -> None:
        self.raw = log.with_suffix(".raw")
        self._log = log
        self._keep = keep
        self._count = count
        #: Kept lines that held ``count``, since the supervisor started.
        self.counted = 0
        self._offset = 0
        self._rest = b""
        self.raw.unlink(missing_ok=True)  # of an earlier run, which has sifted it

    def sift(self) -> int:
        """Carry over what has been written since the last time; returns the number of lines kept."""
        kept = 0
        try:
            with self.raw.open("r+b") as raw, self._log.open("ab") as log:
                raw.seek(self._offset)
                while block := raw.read(1_048_576):
                    self._offset += len(block)
                    *lines, self._rest = (self._rest + block).split(b"\n")
                    wanted = [line for line in lines if self._keep(line)]
                    kept += len(wanted)
                    self.counted += sum(self._count in line for line in wanted)
                    if wanted:
                        log.write(b"\n".join(wanted) + b"\n")
                if self._offset > self._CUT_ABOVE and raw.seek(0, 2) == self._offset:
                    raw.truncate(0)
                    self._offset = 0
        except FileNotFoundError:
            pass
        return kept
