"""The file in which the auditor keeps its checkpoints outside of Kafka and the database."""

from __future__ import annotations

import os
from pathlib import Path

from vitalgate.audit.anchors import add, anchor_of, dump, parse
from vitalgate.audit.chain import Record


def read_anchor_file(file: Path) -> list[Record]:
    """The anchors of a file; none when it is not there.

    Raises
    ------
    AnchorError
        When a line is no anchor.
    OSError
        When the file cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return parse(text, str(file))


def add_to_file(file: Path, checkpoint: Record) -> int:
    """Put a checkpoint into an anchor file, in one step and on the disk; returns how many anchors it holds then.

    Raises
    ------
    AnchorError
        When the file holds something else: it is left as it is.
    OSError
        When it cannot be read or written.
    """
    anchors = add(read_anchor_file(file), anchor_of(checkpoint))
    part = file.with_name(f".{file.name}.{os.getpid()}")
    with part.open("w", encoding="utf-8") as stream:
        stream.write(dump(anchors))
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)
    return len(anchors)
