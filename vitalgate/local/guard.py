"""For systems without Linux's parent-death signal: a small process between the supervisor and each child.

The supervisor holds the write end of a pipe. When it dies, however it dies, the guard reads the end of the pipe and
signals the child. The guard passes stop signals on and ends with the child's exit status.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

#: Write ends live as long as the supervisor.
_life_lines: list[int] = []


def guarded(argv: tuple[str, ...], death_signal: int) -> tuple[tuple[str, ...], int]:
    """The command that runs ``argv`` under a guard, and the descriptor to pass to it (and to close afterwards)."""
    read_end, write_end = os.pipe()
    _life_lines.append(write_end)
    return (sys.executable, "-m", "vitalgate.local.guard", str(read_end), str(int(death_signal)), *argv), read_end


def main(arguments: list[str]) -> int:
    """Run `FD SIGNAL COMMAND...` until the command ends or the pipe FD does."""
    descriptor, death_signal, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    child = subprocess.Popen(command, close_fds=False)

    def watch() -> None:
        while os.read(descriptor, 1):
            pass
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(death_signal)

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, pass_on)
    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
