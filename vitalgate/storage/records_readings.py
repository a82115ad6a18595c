"""A patient's readings, aggregates, waveforms and what was made of them, as a user may see them.

All through views that the database filters by the acting user, and audited. Waveforms are cut to the time in which the
device was the patient's own: a stored row may reach beyond it.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

import orjson

from vitalgate.records.errors import Invalid
from vitalgate.storage.records_audit import tell
from vitalgate.storage.records_database import Transaction
from vitalgate.storage.waveforms import Stretch, stretches

Rows = list[dict[str, Any]]

_COLUMNS = (
    'id, device_id AS "device", device_type AS "deviceType", metric, site, "index", time AS "recordedAt",'
    ' received_at AS "receivedAt", version, entered_by AS "enteredBy", data_payload AS "dataPayload"'
)
LATEST = f"SELECT {_COLUMNS} FROM latest_readings(%s)"  # noqa: S608  constants
WAVEFORM = "SELECT * FROM waveform_rows(%s, %s, %s, %s, %s)"
_VIEWS = {"minute": "readings_by_minute", "hour": "readings_by_hour", "day": "readings_by_day"}


def latest(tx: Transaction, patient: str) -> Rows:
    """The newest current value of each metric and site, by their names; camel case as DeviceData is served."""
    rows = _rows(tx, LATEST, (patient,))
    _audit(tx, patient, "latest", len(rows))
    return rows


def series(
    tx: Transaction, patient: str, metric: str, start: datetime, stop: datetime, limit: int = 1000, after: str = ""
) -> dict[str, Any]:
    """Current values of one metric in [start, stop), in order of time.

    Returns
    -------
    dict
        `data`, and `next`: the cursor of the following page, None when there is none.

    Raises
    ------
    Invalid
        For a cursor that is none.
    """
    values: dict[str, Any] = {
        "patient": patient, "metric": metric, "start": start, "stop": stop, "most": limit + 1,
    }  # fmt: skip
    more = ""
    if after:
        values |= dict(zip(("a0", "a1", "a2", "a3"), _cursor(after), strict=True))
        more = 'AND (time, device_id, site, "index") > (%(a0)s::timestamptz, %(a1)s, %(a2)s, %(a3)s)'
    rows = _rows(
        tx,
        f"SELECT {_COLUMNS} FROM device_data WHERE patient_id = %(patient)s AND metric = %(metric)s"  # noqa: S608
        f" AND time >= %(start)s AND time < %(stop)s AND current AND NOT retracted {more}"
        ' ORDER BY time, device_id, site, "index" LIMIT %(most)s',
        values,
    )
    following = None
    if len(rows) > limit:
        rows = rows[:limit]
        last = rows[-1]
        key = [last["recordedAt"].isoformat(), last["device"], last["site"], last["index"]]
        following = base64.urlsafe_b64encode(orjson.dumps(key)).decode().rstrip("=")
    _audit(tx, patient, metric, len(rows))
    return {"data": rows, "next": following}


def aggregates(tx: Transaction, patient: str, metric: str, width: str, start: datetime, stop: datetime) -> Rows:
    """Count, mean, least and greatest of each minute, hour (UTC) or day (the patient's own) with values.

    Raises
    ------
    Invalid
        For another width.
    """
    view = _VIEWS.get(width)
    if view is None:
        raise Invalid(f"width {width!r} is none of {', '.join(_VIEWS)}", [("width", "is none of these")])
    time = "day" if width == "day" else "time"
    rows = _rows(
        tx,
        f"SELECT {time} AS time, unit, n, mean, low, high FROM {view}"  # noqa: S608  constants
        f" WHERE patient_id = %s AND metric = %s AND {time} >= %s AND {time} < %s ORDER BY 1, 2",
        (patient, metric, start, stop),
    )
    _audit(tx, patient, f"{metric} by {width}", len(rows))
    return rows


def beats(tx: Transaction, patient: str, start: datetime, stop: datetime, limit: int = 200_000) -> Rows:
    """Heart beats in [start, stop): device, channel, time, kind (AAMI class), RR interval in ms."""
    rows = _rows(
        tx,
        'SELECT device_id AS "device", channel, time, kind, rr_ms AS "rrMs", algorithm FROM beats'
        " WHERE patient_id = %s AND time >= %s AND time < %s ORDER BY time, device_id, channel LIMIT %s",
        (patient, start, stop, limit),
    )
    _audit(tx, patient, "beats", len(rows))
    return rows


def features(tx: Transaction, patient: str, start: datetime, stop: datetime, name: str = "") -> Rows:
    """Heart rate, heart-rate variability, rhythm events that begin in [start, stop); of one name if given."""
    rows = _rows(
        tx,
        'SELECT device_id AS "device", channel, name, time AS "start", end_time AS "end", value, unit, algorithm,'
        ' algorithm_version AS "algorithmVersion", detail FROM features'
        " WHERE patient_id = %s AND time >= %s AND time < %s AND (%s = '' OR name = %s) ORDER BY time, name, device_id",
        (patient, start, stop, name, name),
    )
    _audit(tx, patient, name or "features", len(rows))
    return rows


def waveform(
    tx: Transaction, patient: str, channel: str, start: datetime, stop: datetime, device: str | None = None
) -> list[Stretch]:
    """Samples of a channel in [start, stop), while the device was the patient's: one stretch a recording.

    Parameters
    ----------
    device
        Only of this one; else of all that the patient had.
    """
    rows = tx.connection.execute(WAVEFORM.encode(), (patient, channel, start, stop, device), binary=True).fetchall()
    found: list[Stretch] = []
    for (name, low, high), held in groupby(rows, key=itemgetter(0, 1, 2)):
        found += stretches(name, channel, [row[3:] for row in held], low, high)
    _audit(tx, patient, channel, sum(len(one.samples) for one in found))
    return sorted(found, key=lambda one: one.start)


def _rows(tx: Transaction, text: str, values: Any) -> Rows:
    cursor = tx.connection.execute(text.encode(), values, binary=True)
    rows = cursor.fetchall()
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _audit(tx: Transaction, patient: str, what: str, count: int) -> None:
    if tx.actor is not None:
        detail = {"what": what, "count": count, "via": tx.actor.via}
        tell(tx, "device_data.read", "device_data", "", patient=patient, detail=detail)


def _cursor(after: str) -> list[Any]:
    try:
        keys = orjson.loads(base64.urlsafe_b64decode(after + "=="))
        if not isinstance(keys, list) or len(keys) != 4 or not isinstance(keys[3], int):
            raise ValueError("of another list")
        datetime.fromisoformat(keys[0])
    except (ValueError, TypeError, binascii.Error) as error:
        raise Invalid("the cursor is none of this list; begin without one", [("after", "is no cursor")]) from error
    return keys
