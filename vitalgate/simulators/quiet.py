"""Waiting until the system has dealt with all that was sent: rows, beats, alerts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg

from vitalgate.simulators import journal as journals
from vitalgate.simulators.reckoning import reckon

_ASK_EVERY_S = 0.5


def wait_for_rows(journal: Path, dsn: str, schema: str, patience_s: float) -> int:
    """Wait until every item that was sent has a row; how many have none when patience ran out."""
    give_up = time.monotonic() + patience_s
    while True:
        began = time.monotonic()
        lost = reckon(journal, dsn, schema).lost
        if not lost or time.monotonic() > give_up:
            return lost
        time.sleep(max(_ASK_EVERY_S, time.monotonic() - began))


def recorded(journal: Path) -> dict[tuple[str, str, str], int]:
    """Samples sent of each ECG recording, by device, channel and recording."""
    book = journals.read(journal)
    try:
        return {
            (device, channel, recording): stop
            for device, channel, recording, stop in book.execute(
                "SELECT device, metric, recording, max(first_sample + count) FROM items JOIN messages ON id = message"
                " WHERE metric LIKE 'ecg.%' AND expect = 'stored' GROUP BY device, metric, recording"
            )
        }
    finally:
        book.close()


def settle(journals_: Sequence[Path], dsn: str, schema: str, *, still_s: float, patience_s: float) -> None:
    """Wait until all that these journals sent is stored, analysed and alerted, or patience runs out."""
    for journal in journals_:
        wait_for_rows(journal, dsn, schema, patience_s)
    wait_for_analysis(journals_, dsn, schema, still_s=still_s, patience_s=patience_s)


def wait_for_analysis(
    journals_: Sequence[Path], dsn: str, schema: str, *, still_s: float, patience_s: float,
    alerts: Callable[[], int] = lambda: 0,
) -> bool:  # fmt: skip
    """Wait until the beats of every ECG recording reach its end and nothing moves any more.

    Parameters
    ----------
    still_s
        Beats, features and alerts that have not changed for so long are taken to be final even where a recording's
        end is not reached (a lead that is not analysed).
    alerts
        Further count that must stand still.

    Returns
    -------
    False when patience ran out while things were still moving.
    """
    wanted = {key: stop for journal in journals_ for key, stop in recorded(journal).items()}
    devices = sorted({device for device, *_ in wanted})
    give_up = time.monotonic() + patience_s
    before: tuple[int, ...] = ()
    moved = time.monotonic()
    with psycopg.connect(dsn, autocommit=True, options=f"-c search_path={schema}_data") as database:
        while True:
            rows = database.execute(
                "SELECT device_id, channel, recording, max(stop_sample), count(*), sum(revision) FROM beat_blocks"
                " WHERE device_id = ANY(%s) GROUP BY device_id, channel, recording",
                (devices,),
            ).fetchall()
            (features,) = database.execute("SELECT count(*) FROM features").fetchone() or (0,)
            (events,) = database.execute("SELECT count(*) FROM alert_events").fetchone() or (0,)
            now = (sum(row[4] for row in rows), int(sum(row[5] for row in rows)), features, events, alerts())
            if now != before:
                before, moved = now, time.monotonic()
            still = time.monotonic() - moved
            reached = {(row[0], row[1], row[2]): row[3] for row in rows}
            complete = all(reached.get(key, -1) >= stop for key, stop in wanted.items())
            if still > (min(2.0, still_s) if complete else still_s):
                return True
            if time.monotonic() > give_up:
                return False
            time.sleep(_ASK_EVERY_S)
