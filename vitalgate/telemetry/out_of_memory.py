"""A process that gets no more memory ends, and is started again: it does not go on without what failed for it."""

from __future__ import annotations

import os
import sys
import threading

#: As after any fault that is not foreseen: the supervisor starts the process again.
EXIT_STATUS = 3
_TOLD = b'{"level": "critical", "event": "out of memory: the process ends, its supervisor has to start it again"}\n'


def end_when_out_of_memory() -> None:
    """End the process (status 3) when memory is wanting where nobody could catch it: in a thread, or at its start.

    A thread that finds no memory at its start is reported as "unraisable"; whoever started it then waits for good in
    CPython before 3.13. Both hooks go on to the ones that were there for everything else.
    """
    in_threads, unraisable = threading.excepthook, sys.unraisablehook

    def of_a_thread(found: threading.ExceptHookArgs, /) -> None:
        if issubclass(found.exc_type, MemoryError):
            _end()
        in_threads(found)

    def of_nobody(found: sys.UnraisableHookArgs, /) -> None:
        if issubclass(found.exc_type, MemoryError):
            _end()
        unraisable(found)

    threading.excepthook, sys.unraisablehook = of_a_thread, of_nobody


def _end() -> None:
    # Nothing here takes memory: the line is ready, and nobody is told to clean up.
    os.write(2, _TOLD)
    os._exit(EXIT_STATUS)
