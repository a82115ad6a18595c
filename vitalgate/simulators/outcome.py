"""Whether a scenario came out as its file says: these alerts and no others, these counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from vitalgate.simulators import journal as journals
from vitalgate.simulators.reckoning import Reckoning
from vitalgate.simulators.scenario import AlertOf, Expected, Scenario


@dataclass(frozen=True)
class Alert:
    """An alert as the database has it, after its last event."""

    alert_id: str
    patient: str
    rule: str
    priority: str
    onset: float
    """Seconds since 1970."""
    state: str
    """raised, cleared or retracted."""
    hindsight: bool
    """As it was raised."""


def alerts_of(dsn: str, schema: str, patients: Sequence[str]) -> list[Alert]:
    """The alerts of these patients, by onset."""
    with psycopg.connect(dsn, autocommit=True, options=f"-c search_path={schema}_data") as database:
        rows = database.execute(
            "SELECT alert_id, min(patient_id), min(rule), min(priority), extract(epoch FROM min(onset))::float8,"
            " (array_agg(state ORDER BY n DESC))[1],"
            " coalesce(bool_or(hindsight) FILTER (WHERE state = 'raised'), false)"
            " FROM alert_events WHERE patient_id = ANY(%s) GROUP BY alert_id ORDER BY min(onset), alert_id",
            (list(patients),),
        ).fetchall()
    return [Alert(*row) for row in rows]


def players_of(journal: Path | str) -> tuple[dict[str, str], float]:
    """(patient id to role, start of the run) as the journal has them."""
    book = journals.read(journal)
    try:
        notes = {name: json.loads(value) for name, value in book.execute("SELECT name, value FROM notes")}
    finally:
        book.close()
    return notes["players"], float(notes["start"])


def judge(
    scenario: Scenario, players: Mapping[str, str], start: float, alerts: Iterable[Alert], found: Reckoning
) -> list[str]:
    """What is not as the scenario says, one sentence each; empty when all is.

    Parameters
    ----------
    players
        Patient id to role.
    start
        Virtual start of the run, seconds since 1970.
    """
    faults = [f"{found.lost} items are nowhere: {'; '.join(found.wrong[:3])}"] if found.lost else []
    if found.never_sent:
        faults.append(f"{found.never_sent} items were never sent")
    faults += [text for text in found.wrong if not text.startswith("lost")]
    left = list(alerts)
    for patient, role in players.items():
        for expected in scenario.expect.alerts:
            if expected.patient == role:
                faults += _take(expected, patient, start, left)
    if not scenario.expect.other_alerts:
        faults += [
            f"{alert.patient}: {alert.rule} ({alert.priority}) at {alert.onset - start:.1f} s, {alert.state},"
            " was not expected"
            for alert in left
        ]
    return faults + _counts(scenario.expect, found, copies=_copies(scenario, players))


def _copies(scenario: Scenario, players: Mapping[str, str]) -> int:
    return max(1, len(players) // len(scenario.patients))


def _take(expected: AlertOf, patient: str, start: float, left: list[Alert]) -> list[str]:
    what = f"{patient}: {expected.rule}"
    same = [alert for alert in left if alert.patient == patient and alert.rule == expected.rule]
    near = sorted(same, key=lambda alert: abs(alert.onset - start - expected.onset))[: expected.times]
    if not near:
        return [f"{what} ({expected.priority}) at {expected.onset:g} s was not raised"]
    faults = []
    if len(near) < expected.times:
        faults.append(f"{what} was raised {len(near)} times, not {expected.times}")
    first = min(near, key=lambda alert: alert.onset)
    away = first.onset - start - expected.onset
    if abs(away) > expected.tolerance:
        faults.append(
            f"{what}: onset at {first.onset - start:.1f} s, {abs(away):.1f} s from {expected.onset:g} s"
            f" (tolerance {expected.tolerance:g} s)"
        )
    for alert in near:
        left.remove(alert)
        if alert.priority != expected.priority:
            faults.append(f"{what}: priority {alert.priority}, not {expected.priority}")
        if (alert.state == "retracted") != expected.retracted:
            faults.append(f"{what}: is {alert.state}, expected {'' if expected.retracted else 'not '}retracted")
        elif expected.cleared is not None and (alert.state == "cleared") != expected.cleared:
            faults.append(f"{what}: is {alert.state}, expected {'cleared' if expected.cleared else 'still open'}")
        if expected.hindsight is not None and alert.hindsight != expected.hindsight:
            faults.append(f"{what}: hindsight is {alert.hindsight}, expected {expected.hindsight}")
    return faults


def _counts(expected: Expected, found: Reckoning, copies: int) -> list[str]:
    faults = []
    duplicates = found.duplicate - found.resent
    if expected.duplicate is not None and duplicates != expected.duplicate * copies:
        faults.append(f"{duplicates} duplicates beside {found.resent} of resending, not {expected.duplicate * copies}")
    dead = dict(found.dead_by_reason)
    wanted = {reason: count * copies for reason, count in expected.dead_lettered.items()}
    if dead != wanted:
        faults.append(f"dead letters {_listed(dead)}, not {_listed(wanted)}")
    if expected.versions is not None and found.versions != expected.versions * copies:
        faults.append(f"{found.versions} further versions, not {expected.versions * copies}")
    if found.gaps != expected.gaps * copies:
        faults.append(f"{found.gaps} devices with an open gap in their numbering, not {expected.gaps * copies}")
    return faults


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items())) or "none"
