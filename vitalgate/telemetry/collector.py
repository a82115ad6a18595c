"""When Python looks for cycles of objects: seldom, in processes that hold many small objects for long."""

from __future__ import annotations

import gc

#: New objects between two looks at the youngest, and rounds of each younger generation between looks at the next.
#: Python's 700, 10, 10 let the collector run within every batch.
THRESHOLDS = (20_000, 20, 20)


def settle() -> None:
    """Call when everything that lives as long as the process has been loaded: it is never looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
