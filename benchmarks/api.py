"""What applications wait for: reads over REST beside the same statements by plain psycopg, with a long history."""

from __future__ import annotations

import http.client
import secrets
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

import psycopg

from benchmarks import load
from benchmarks.bed import Bed, BenchError, now
from benchmarks.committed import CommitWatch
from benchmarks.throughput import publish
from vitalgate.pki import keyring
from vitalgate.storage import records_accounts, records_readings
from vitalgate.storage.aggregates import refresh_plain, refresh_timescale
from vitalgate.storage.connect import connect, names
from vitalgate.storage.records_database import RecordsDatabase

PATIENTS, READINGS = 1000, 10_000_000
#: Settings of the stack: what the API can do is measured, not what one user may ask of it.
LIMITS = {"api.requests_per_s": "100000", "api.requests_burst": "100000"}
AIM = 0.4
CALLERS = 2
_ECG_S = 30
_PATIENCE_S = 60.0
#: Rows written straight into the table: what the pipeline does with them is measured elsewhere.
_FILL = """
    INSERT INTO readings (time, device_id, metric, site, idx, version, current, value_num, unit, epoch_no, ord, item,
                          received_at, skew_s, message_id, raw_partition, raw_offset)
    SELECT %(begin)s::timestamptz + n * interval '10 seconds', d, 'spo2', '', 0, 1, true, 90 + n %% 10, '%%', 0, n, 0,
           %(begin)s::timestamptz + n * interval '10 seconds', 0, gen_random_uuid(), 0, -1
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n, unnest(%(devices)s::text[]) AS d
"""


def run(bed: Bed, seconds: float, scale: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """The section."""
    patients = max(4, int(PATIENTS * scale))
    each = int(READINGS * scale) // patients
    _, wearers = load.cast("a", 0, patients)
    patches, _ = load.cast("a", 2, 0)
    begin = now() - timedelta(seconds=10 * each + 60)
    ecg = now() - timedelta(minutes=2)
    bed.enrol([*wearers, *patches], min(begin, ecg - timedelta(hours=1)) - timedelta(hours=1))
    tell(f"writing {patients * each} readings of {patients} patients")
    _fill(bed, [wearer.device for wearer in wearers], begin, each)
    messages = list(load.recordings(patches, _ECG_S, "a1", ecg))
    with CommitWatch(bed.settings, 0.1) as watch:
        publish(bed, load.Departures(messages), len(messages), 200)
        watch.wait(len(messages), _PATIENCE_S)
    user = _account(bed, wearers[0].patient)
    token = _log_in(bed, user)
    heart_user = _account(bed, patches[0].patient)
    heart = _log_in(bed, heart_user)
    newest = begin + timedelta(seconds=10 * each)
    day = {"metric": "spo2", "from": _text(newest - timedelta(days=1)), "to": _text(newest)}
    first = _first_sample(bed, patches[0].device)
    strip = {"channel": "ecg.II", "from": _text(first), "to": _text(first + timedelta(seconds=10))}
    asked = {
        "latest": (user, token, f"/v1/patients/{wearers[0].patient}/readings/latest",
                   records_readings.LATEST, (wearers[0].patient,)),
        "day of minutes": (user, token, f"/v1/patients/{wearers[0].patient}/readings/aggregates?{urlencode(day)}",
                           "SELECT time AS time, unit, n, mean, low, high FROM readings_by_minute WHERE patient_id = %s"
                           " AND metric = %s AND time >= %s AND time < %s ORDER BY 1, 2",
                           (wearers[0].patient, "spo2", newest - timedelta(days=1), newest)),
        "10 s of ECG": (heart_user, heart, f"/v1/patients/{patches[0].patient}/waveforms?{urlencode(strip)}",
                        records_readings.WAVEFORM,
                        (patches[0].patient, "ecg.II", first, first + timedelta(seconds=10), None)),
    }  # fmt: skip
    found: dict[str, Any] = {"patients": patients, "readings": patients * each}
    for name, (who, bearer, path, statement, values) in asked.items():
        tell(f"{name}: REST, then psycopg")
        rest = _measure(seconds / 6, partial(_Rest, bed, bearer, path))
        plain = _measure(seconds / 6, partial(_Plain, bed, who[0], statement, values))
        found[name] = {"rest": rest, "psycopg": plain, "ratio": round(rest["per_s"] / plain["per_s"], 3)}
    return found


def text(found: dict[str, Any]) -> list[str]:
    """For a person."""
    lines = [f"{found['patients']} patients, {found['readings']} readings, {CALLERS} callers on this machine"]
    for name, one in found.items():
        if isinstance(one, dict):
            rest, plain = one["rest"], one["psycopg"]
            lines.append(
                f"{name}: REST {rest['per_s']:.0f}/s, p50 {rest['p50_ms']:.1f} ms, p99 {rest['p99_ms']:.1f} ms; "
                f"psycopg {plain['per_s']:.0f}/s, p99 {plain['p99_ms']:.1f} ms: {one['ratio']:.0%} (aim {AIM:.0%})"
            )
    return lines


def _fill(bed: Bed, devices: list[str], begin: datetime, each: int) -> None:
    with connect(bed.settings.database, "bench-fill", autocommit=True) as connection:
        for start in range(0, each, 1000):
            connection.execute(
                _FILL.encode(),
                {"begin": begin, "first": start, "last": min(start + 1000, each) - 1, "devices": devices},
            )
        connection.execute("ANALYZE readings")
        row = connection.execute("SELECT value FROM meta WHERE name = 'form'").fetchone()
        if row and row[0] == "timescale":
            refresh_timescale(connection, now())
            for view in ("readings_minute", "readings_quarter"):
                connection.execute(
                    "CALL refresh_continuous_aggregate(%s::regclass, %s::timestamptz, NULL)", (view, begin)
                )
        else:
            connection.execute("INSERT INTO aggregates_dirty (from_time, to_time) VALUES (%s, %s)", (begin, now()))
            refresh_plain(connection)


def _account(bed: Bed, patient: str) -> tuple[str, str, str]:
    """(user id, e-mail, password) of a patient's account."""
    email, password = f"{patient}-{secrets.token_hex(3)}@example.org", secrets.token_urlsafe(18)
    settings = bed.settings
    with RecordsDatabase(settings.database, keyring.read(settings.security.keys_file), most=2) as database:
        with database.service("service:bench") as tx:
            code = records_accounts.invite(tx, email, "patient", patient=patient)
        made = records_accounts.sign_up(database, email, password, "Bench", "patient", invitation=code)
    return made.user_id, email, password


def _log_in(bed: Bed, user: tuple[str, str, str]) -> str:
    import httpx

    api = bed.settings.api
    answer = httpx.post(
        f"http://{api.host}:{api.port}/v1/auth/log-in", json={"email": user[1], "password": user[2]}, timeout=30
    )
    if answer.status_code != 200:
        raise BenchError(f"the API did not log in: {answer.status_code} {answer.text[:200]}")
    return str(answer.json()["accessToken"])


def _first_sample(bed: Bed, device: str) -> datetime:
    with connect(bed.settings.database, "bench") as connection:
        row = connection.execute("SELECT min(time) FROM waveforms WHERE device_id = %s", (device,)).fetchone()
    if row is None or row[0] is None:
        raise BenchError(f"no waveform of {device} is stored")
    found: datetime = row[0]
    return found


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


class _Rest:
    """One caller over HTTP, its connection kept."""

    def __init__(self, bed: Bed, token: str, path: str) -> None:
        self._connection = http.client.HTTPConnection(bed.settings.api.host, bed.settings.api.port, timeout=30)
        self._headers = {"authorization": f"Bearer {token}"}
        self._path = path

    def __call__(self) -> None:
        self._connection.request("GET", self._path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200 or len(body) < 20:
            raise BenchError(f"GET {self._path} answered {answer.status}: {body[:200]!r}")

    def close(self) -> None:
        self._connection.close()


class _Plain:
    """The same statement in the same name by psycopg alone: one transaction, nothing audited, nothing encoded."""

    def __init__(self, bed: Bed, user: str, statement: str, values: tuple[Any, ...]) -> None:
        where = names(bed.settings.database)
        self._role = where.app_role
        self._connection = psycopg.connect(
            bed.settings.database.dsn, options=f"-c search_path={where.records},{where.data},public -c jit=off"
        )
        self._user, self._statement, self._values = user, statement, values

    def __call__(self) -> None:
        with self._connection.transaction():
            self._connection.execute(
                "SELECT set_config('vitalgate.user', %s, true), set_config('vitalgate.role', 'patient', true)",
                (self._user,),
            )
            self._connection.execute(f"SET LOCAL ROLE {self._role}".encode())
            if not self._connection.execute(self._statement.encode(), self._values, binary=True).fetchall():
                raise BenchError(f"nothing came of {self._statement[:80]}")

    def close(self) -> None:
        self._connection.close()


def _measure(seconds: float, make: Callable[[], Any]) -> dict[str, float]:
    """Closed loop: each caller asks again as soon as it has its answer."""
    times: list[float] = []
    failed: list[BaseException] = []
    until = time.perf_counter() + seconds

    def call() -> None:
        try:
            with closing(make()) as one:
                one()  # the first one connects
                while time.perf_counter() < until:
                    began = time.perf_counter()
                    one()
                    times.append(time.perf_counter() - began)
        except BaseException as error:
            failed.append(error)

    began = time.perf_counter()
    threads = [threading.Thread(target=call) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if failed:
        raise BenchError(str(failed[0])) from failed[0]
    if len(times) < 2:
        raise BenchError("too few requests were answered in the time")
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {
        "per_s": round(len(times) / took, 1), "p50_ms": round(cuts[49] * 1000, 2), "p99_ms": round(cuts[98] * 1000, 2),
    }  # fmt: skip
