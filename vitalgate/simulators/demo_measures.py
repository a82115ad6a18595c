"""What the demo asks the database at its end: latest values, beats against the truth, alert latencies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from vitalgate.simulators import heart
from vitalgate.simulators import journal as journals
from vitalgate.simulators.cast import Cast
from vitalgate.simulators.scoring import Matcher, Scored
from vitalgate.simulators.watch import Arrived

Database = psycopg.Connection[Any]


def latest_values(database: Database, members: Cast) -> dict[str, dict[str, str]]:
    """Each patient's latest current values, by metric, as text with the unit."""
    owner = {prop.device: prop.player.patient for prop in members.props}
    latest: dict[str, dict[str, str]] = {player.patient: {} for player in members.players}
    newest: dict[tuple[str, str], Any] = {}
    for device, metric, at, number, code, unit, absent in database.execute(
        "SELECT DISTINCT ON (device_id, metric) device_id, metric, time, value_num, value_code, unit, absent"
        " FROM readings WHERE current AND NOT retracted AND device_id = ANY(%s) ORDER BY device_id, metric, time DESC",
        (list(owner),),
    ):
        patient = owner[device]
        if newest.get((patient, metric)) is None or newest[patient, metric] < at:
            newest[patient, metric] = at
            shown = code if code is not None else f"– ({absent})" if number is None else f"{number:.4g} {unit}".strip()
            latest[patient][metric] = shown
    return latest


def score_simulated(database: Database, members: Cast, match: Matcher) -> Scored | None:
    """The beats found in the simulated hearts' patches against the beats that those hearts made; None without any."""
    tp = fn = fp = found = 0
    for prop in members.props:
        if prop.kind != "ecg-patch":
            continue
        rows = database.execute(
            "SELECT extract(epoch FROM time)::float8 FROM beats WHERE device_id = %s ORDER BY time", (prop.device,)
        ).fetchall()
        extent = database.execute(
            "SELECT extract(epoch FROM min(time))::float8,"
            " extract(epoch FROM max(time + count * rate_den * interval '1 second' / rate_num))::float8"
            " FROM waveforms WHERE device_id = %s",
            (prop.device,),
        ).fetchone()
        if extent is None or extent[0] is None:
            continue
        start, stop = extent
        truth = heart.beats(prop.player.person, start, stop).time
        detected = np.array([row[0] for row in rows])
        counts = match(_ms(truth - start), _ms(detected - start), 1000.0, [])
        found += len(detected)
        tp, fn, fp = tp + counts.tp, fn + counts.fn, fp + counts.fp
    return Scored("simulated hearts", "ecg", found, tp + fn, 0, tp, fn, fp) if found else None


def _ms(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(seconds * 1000).astype(np.int64)


def device_to_alert(
    database: Database, journal: Path, arrived: Sequence[Arrived]
) -> tuple[list[float], list[float]]:  # fmt: skip
    """Milliseconds from the publish of the message that completed an alert to the alert's arrival at the clinician.

    The completing message is the one whose rows bear the alert's ``received_at``. Alerts that bear none (raised by time
    alone) do not count.

    Returns
    -------
    Of alerts of readings, and of alerts of the ECG. What the analysis has to wait for by definition, the samples behind
    an event, is no part of the latter: they count from the packet that brought the last of these samples.
    """
    took: tuple[list[float], list[float]] = ([], [])
    book = journals.read(journal)
    try:
        for one in arrived:
            received = one.alert.get("received_at")
            if not received:
                continue
            sent_us = _sent(database, book, datetime.fromisoformat(str(received)), str(one.alert["patient"]))
            if sent_us:
                took[one.alert.get("strip") is not None].append((one.at_us - sent_us) / 1000)
    finally:
        book.close()
    return took


def _sent(database: Database, book: Any, received: datetime, patient: str) -> int | None:
    devices = [row[0] for row in book.execute("SELECT DISTINCT device FROM messages WHERE patient = ?", (patient,))]
    row = database.execute(
        "SELECT device_id, epoch, seq FROM (SELECT device_id, epoch, seq, received_at FROM readings"
        " UNION ALL SELECT device_id, epoch, seq, received_at FROM waveforms) rows"
        " WHERE received_at = %(at)s AND device_id = ANY(%(devices)s) LIMIT 1",
        {"at": received, "devices": devices},
    ).fetchone()
    if row is None:
        return None
    found = book.execute(
        "SELECT sent_us FROM messages WHERE device = ? AND epoch = ? AND seq = ? AND sends = 1", row
    ).fetchone()
    return int(found[0]) if found else None
