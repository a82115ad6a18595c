"""What came of a round, told in seconds after its start and in roles, so that rounds of one seed can be compared."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, LiteralString

import psycopg

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage import waveforms

Row = tuple[Any, ...]
_READINGS: LiteralString = """
    SELECT device_id, metric, site, (extract(epoch FROM time) * 1000000)::bigint, idx, version, current, retracted,
           value_num, value_code, comparator, absent, unit
    FROM readings WHERE device_id = ANY(%s)
"""
_STATUSES: LiteralString = """
    SELECT device_id, (extract(epoch FROM time) * 1000000)::bigint, state, battery FROM device_status
    WHERE device_id = ANY(%s)
"""
_DEAD: LiteralString = "SELECT device_id, reason, count(*) FROM dead_letters WHERE device_id = ANY(%s) GROUP BY 1, 2"
_RECORDINGS: LiteralString = """
    SELECT device_id, channel, recording, first_sample, stop_sample FROM recordings WHERE device_id = ANY(%s)
"""
_BEATS: LiteralString = "SELECT device_id, channel, recording, sample, kind, rr_ms FROM beats WHERE device_id = ANY(%s)"
_BLOCKS: LiteralString = """
    SELECT device_id, channel, recording, block, first_sample, stop_sample, beats FROM beat_blocks
    WHERE device_id = ANY(%s)
"""
_FEATURES: LiteralString = """
    SELECT device_id, channel, recording, name, first_sample, stop_sample, value, unit FROM features
    WHERE NOT withdrawn AND device_id = ANY(%s)
"""
_ALERTS: LiteralString = """
    SELECT patient_id, alert_id, rule, (extract(epoch FROM min(onset)) * 1000000)::bigint,
           (array_agg(state ORDER BY n DESC))[1]
    FROM alert_events WHERE patient_id = ANY(%s) GROUP BY patient_id, alert_id, rule
"""


@dataclass
class Outcome:
    """Everything that two rounds of one seed must agree on, as sorted rows that begin with a role."""

    readings: list[Row] = field(default_factory=list)
    """Role, metric, site, µs after the start, index, version, current, retracted, value, code, comparator, absence,
    unit."""
    statuses: list[Row] = field(default_factory=list)
    dead_letters: list[Row] = field(default_factory=list)
    """Role, reason, how many."""
    recordings: list[Row] = field(default_factory=list)
    """Role, channel, recording, first and stop sample, samples present, BLAKE2b of the samples."""
    beats: list[Row] = field(default_factory=list)
    blocks: list[Row] = field(default_factory=list)
    features: list[Row] = field(default_factory=list)
    """Rhythm events among them."""
    alerts: list[Row] = field(default_factory=list)
    """Patient's role, rule, ms after the start; physiological ones that were not taken back."""

    def document(self) -> dict[str, list[list[Any]]]:
        """As JSON has it."""
        return {each.name: [list(row) for row in getattr(self, each.name)] for each in fields(self)}

    @classmethod
    def of(cls, document: Mapping[str, list[list[Any]]]) -> Outcome:
        """From JSON."""
        return cls(**{name: [tuple(row) for row in rows] for name, rows in document.items()})

    def counts(self) -> dict[str, int]:
        """Rows of each sort."""
        return {each.name: len(getattr(self, each.name)) for each in fields(self)}

    def without(self, roles: Collection[str]) -> Outcome:
        """Without these patients (roles) and their devices."""
        return Outcome(
            **{
                each.name: [row for row in getattr(self, each.name) if str(row[0]).partition("/")[0] not in roles]
                for each in fields(self)
            }
        )


@dataclass
class Difference:
    """By how much an outcome is not the reference's."""

    missing: int = 0
    """Rows that the reference has and the outcome has not."""
    extra: int = 0
    """Rows of the outcome for which the reference has nothing of that name."""
    other: int = 0
    """Rows of the same name that say something else."""
    lost: int = 0
    """Of the missing, what devices had sent: readings, statuses, dead letters; and blocks' worth of samples."""
    told: list[str] = field(default_factory=list)
    """The first few, in words."""

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self.missing or self.extra or self.other)


#: How many columns name a row; the others are what it says.
_NAMED = {
    "readings": 6, "statuses": 2, "dead_letters": 2, "recordings": 3, "beats": 4, "blocks": 4, "features": 5,
    "alerts": 3,
}  # fmt: skip
_SENT = frozenset({"readings", "statuses", "dead_letters", "recordings"})
_TOLD = 12


def compare(reference: Outcome, found: Outcome) -> Difference:
    """Every row of one in the other, once."""
    difference = Difference()
    for name, named in _NAMED.items():
        wanted, there = getattr(reference, name), getattr(found, name)
        missing, extra = list((Counter(wanted) - Counter(there)).elements()), Counter(there) - Counter(wanted)
        by_name: dict[Row, list[Row]] = {}
        for row in extra.elements():
            by_name.setdefault(row[:named], []).append(row)
        for row in missing:
            same = by_name.get(row[:named])
            if same:
                instead = same.pop()
                difference.other += 1
                difference.lost += name == "recordings" and instead[5] < row[5]
                _tell(difference, f"{name}: {row} is {instead[named:]}")
            else:
                difference.missing += 1
                difference.lost += name in _SENT
                _tell(difference, f"{name}: {row} is missing")
        for rows in by_name.values():
            for row in rows:
                difference.extra += 1
                _tell(difference, f"{name}: {row} is there and should not be")
    return difference


def _tell(difference: Difference, text: str) -> None:
    if len(difference.told) < _TOLD:
        difference.told.append(text)


def read(
    database: DatabaseSettings, devices: Mapping[str, str], patients: Mapping[str, str], start_us: int,
    technical: frozenset[str],
) -> Outcome:  # fmt: skip
    """What the tables have of a round.

    Parameters
    ----------
    devices, patients
        Id to role.
    start_us
        The round's virtual start, microseconds since 1970.
    technical
        Ids of alerts that are about the equipment: they tell of the faults, and differ as the faults do.
    """
    names = list(devices)
    with psycopg.connect(
        database.dsn, autocommit=True, options=f"-c search_path={database.db_schema}_data", connect_timeout=5
    ) as connection:

        def rows(query: LiteralString, wanted: list[str] = names) -> list[Row]:
            return connection.execute(query, (wanted,)).fetchall()

        found = Outcome(
            readings=[(devices[d], *rest[:2], rest[2] - start_us, *rest[3:]) for d, *rest in rows(_READINGS)],
            statuses=[(devices[d], at - start_us, *rest) for d, at, *rest in rows(_STATUSES)],
            dead_letters=[(devices[d], *rest) for d, *rest in rows(_DEAD)],
            beats=[(devices[d], *rest) for d, *rest in rows(_BEATS)],
            blocks=[(devices[d], *rest) for d, *rest in rows(_BLOCKS)],
            features=[(devices[d], *rest[:5], _rounded(rest[5]), *rest[6:]) for d, *rest in rows(_FEATURES)],
            alerts=[
                (patients[p], rule, round((onset - start_us) / 1000))
                for p, alert, rule, onset, state in rows(_ALERTS, list(patients))
                if alert not in technical and state != "retracted"
            ],
        )
        extents = rows(_RECORDINGS)
    for device, channel, recording, first, stop in extents:
        stretch = waveforms.read_samples(database, device, channel, recording, first, stop)
        assert stretch is not None
        digest = hashlib.blake2b(stretch.samples.astype("<i4").tobytes(), digest_size=8).hexdigest()
        found.recordings.append((devices[device], channel, recording, first, stop, int(stretch.present.sum()), digest))
    for each in fields(found):
        getattr(found, each.name).sort(key=str)
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.9g}")
