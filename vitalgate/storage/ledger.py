"""The account of every item: received against what the tables hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.connect import connect
from vitalgate.storage.errors import transient

_COUNTS = """
    SELECT
        (SELECT count(*) FROM readings WHERE NOT derived),
        (SELECT count(*) FROM readings WHERE derived),
        (SELECT coalesce(sum(n_items), 0) FROM waveforms),
        (SELECT count(*) FROM device_status),
        (SELECT count(*) FROM pending_corrections WHERE NOT derived),
        (SELECT count(*) FROM dead_letters),
        (SELECT coalesce(sum(stored), 0) FROM retention_drops),
        (SELECT coalesce(sum(derived), 0) FROM retention_drops),
        (SELECT coalesce(sum(dead_lettered), 0) FROM retention_drops),
        (SELECT coalesce(sum(last_offset - first_offset + 1), 0) FROM ledger_holes)
"""
_SUMS = """
    SELECT coalesce(sum(messages), 0), coalesce(sum(items), 0), coalesce(sum(stored), 0), coalesce(sum(duplicate), 0),
           coalesce(sum(dead_lettered), 0), coalesce(sum(derived), 0) FROM ledger
"""
_MARKS = "SELECT topic, partition, max(last_offset) FROM ledger GROUP BY topic, partition ORDER BY topic, partition"


@dataclass
class Ledger:
    """What was received and where every item of it is."""

    messages: int
    received: int
    """Items of the raw records that were applied, with one for each offset that never came."""
    stored: int
    """Rows in the tables (items of repacked waveform rows one by one), with those that retention dropped."""
    duplicate: int
    dead_lettered: int
    lost: int
    """received - stored - duplicate - dead_lettered; negative when there are more rows than items."""
    balanced: bool
    faults: list[str] = field(default_factory=list)
    """What does not agree, in words."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows by table."""
    dropped: int = 0
    """Items that retention dropped."""
    high_water: dict[str, dict[int, int]] = field(default_factory=dict)
    """Topic -> partition -> last raw offset applied."""
    in_flight: int = 0
    """Raw records that are in Kafka and not applied yet."""
    gaps: list[dict[str, Any]] = field(default_factory=list)
    """Open gaps in devices' numbering."""

    def document(self) -> dict[str, Any]:
        """For `ledger --json`."""
        return {
            "received": self.received,
            "stored": self.stored,
            "duplicate": self.duplicate,
            "dead_lettered": self.dead_lettered,
            "in_flight": self.in_flight,
            "lost": self.lost,
            "balanced": self.balanced,
            "gaps": self.gaps,
            "faults": self.faults,
            "messages": self.messages,
            "rows": self.rows,
            "dropped": self.dropped,
        }

    def text(self) -> str:
        """For people."""
        lines = [
            f"{name.replace('_', '-'):<14}{getattr(self, name):>14,}"
            for name in ("received", "stored", "duplicate", "dead_lettered", "in_flight", "lost")
        ]
        for gap in self.gaps:
            missing = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in gap["missing"][:5])
            lines.append(f"gap: {gap['device_id']} epoch {gap['epoch']} has not sent {missing}")
        lines += [f"! {fault}" for fault in self.faults]
        return "\n".join([*lines, "balanced" if self.balanced else "NOT BALANCED"])


def read(database: DatabaseSettings) -> Ledger:
    """Count all rows and compare them with the ledger, in one snapshot.

    Raises
    ------
    TransientDatabaseError
        When the database is away.
    """
    with transient(), connect(database, "ledger") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        counts = connection.execute(_COUNTS).fetchone()
        sums = connection.execute(_SUMS).fetchone()
        marks = connection.execute(_MARKS).fetchall()
    assert counts is not None and sums is not None
    high_water: dict[str, dict[int, int]] = {}
    for topic, partition, last in marks:
        high_water.setdefault(topic, {})[partition] = last
    return reckon([int(n) for n in counts], [int(n) for n in sums], high_water)


def high_water(database: DatabaseSettings, topic: str) -> dict[int, int]:
    """The last raw offset applied, by partition of this (full) topic. Raises TransientDatabaseError."""
    with transient(), connect(database, "ledger") as connection:
        # From the index, partition by partition: the ledger is long, the partitions are few.
        found = connection.execute(
            """
            WITH RECURSIVE last AS (
                (SELECT partition, last_offset FROM ledger WHERE topic = %(topic)s
                 ORDER BY partition DESC, last_offset DESC LIMIT 1)
                UNION ALL
                SELECT below.* FROM last CROSS JOIN LATERAL (
                    SELECT partition, last_offset FROM ledger WHERE topic = %(topic)s AND partition < last.partition
                    ORDER BY partition DESC, last_offset DESC LIMIT 1) AS below)
            SELECT partition, last_offset FROM last
            """,
            {"topic": topic},
        ).fetchall()
    return dict(found)


def reckon(counts: list[int], sums: list[int], high_water: dict[str, dict[int, int]]) -> Ledger:
    """The account from the counts of rows and the sums of the ledger. Pure."""
    readings, derived, waveforms, statuses, pending, dead, dropped, dropped_derived, dropped_dead, holes = counts
    messages, items, said_stored, duplicate, said_dead, said_derived = sums
    stored = readings + waveforms + statuses + pending + dropped
    dead_lettered = dead + dropped_dead
    received = items + holes
    lost = received - stored - duplicate - dead_lettered
    faults = [
        f"{name}: the ledger says {said}, the tables hold {there}"
        for name, said, there in (
            ("stored", said_stored, stored),
            ("dead-lettered", said_dead, dead_lettered),
            ("rows of split versions", said_derived, derived + dropped_derived),
        )
        if said != there
    ]
    if holes:
        faults.append(f"{holes} raw offsets never reached the recorder")
    return Ledger(
        messages=messages,
        received=received,
        stored=stored,
        duplicate=duplicate,
        dead_lettered=dead_lettered,
        lost=lost,
        balanced=lost == 0 and not faults,
        faults=faults,
        rows={
            "readings": readings + derived,
            "waveform items": waveforms,
            "device_status": statuses,
            "pending_corrections": pending,
            "dead_letters": dead,
        },
        dropped=dropped + dropped_dead,
        high_water=high_water,
    )
