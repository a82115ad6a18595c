"""A wall clock that can be set for the processes under torture alone, while the machine's own goes on.

No name space has a wall clock of its own, so a small library (`stepped_clock.c`, built here with the machine's C
compiler) is loaded into our processes and adds an offset to every reading of it. Python, librdkafka and libpq all read
the clock through the C library, so all of a process sees the same time. Monotonic clocks are untouched.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

from vitalgate.local.errors import StackError

_SOURCE = Path(__file__).with_name("stepped_clock.c")
_FORMAT = "=q"


def compiler() -> str | None:
    """The machine's C compiler; None when it has none."""
    return shutil.which("cc") or shutil.which("gcc")


class SteppedClock:
    """The library and the file with the offset, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._offset = folder / "clock-offset"
        self._library = folder / "stepped-clock.so"

    def build(self) -> None:
        """Build it, with no offset.

        Raises
        ------
        StackError
            When there is no compiler or it fails; the text carries what it said.
        """
        found = compiler()
        if found is None:
            raise StackError("no C compiler (cc): the clock of a process cannot be stepped without one")
        done = subprocess.run(
            [found, "-shared", "-fPIC", "-O2", "-o", str(self._library), str(_SOURCE), "-ldl"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise StackError(f"{_SOURCE.name} cannot be built: {done.stderr.strip()[:500]}")
        self.set(0)

    def set(self, seconds: float) -> None:
        """Let the wall clock be that far ahead of the machine's (negative: behind), at once and everywhere."""
        data = struct.pack(_FORMAT, round(seconds * 1e9))
        if not self._offset.exists():
            self._offset.write_bytes(data)
            return
        with self._offset.open("r+b", buffering=0) as stream:  # the same file: it is mapped
            stream.write(data)

    @property
    def environment(self) -> dict[str, str]:
        """For processes that are to see it."""
        return {"LD_PRELOAD": str(self._library), "STEPPED_CLOCK_FILE": str(self._offset)}
