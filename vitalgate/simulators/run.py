"""The end of a scenario's run: wait until all is quiet, join, judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitalgate.simulators.outcome import Alert, alerts_of, judge, players_of
from vitalgate.simulators.quiet import settle
from vitalgate.simulators.reckoning import Reckoning, reckon
from vitalgate.simulators.scenario import Scenario


@dataclass(frozen=True)
class Verdict:
    """What came of a scenario."""

    faults: list[str]
    """What is not as the scenario says; empty when all is."""
    found: Reckoning
    alerts: list[Alert]
    start: float
    """Virtual start, seconds since 1970."""

    @property
    def good(self) -> bool:
        """Everything came out as the scenario says."""
        return not self.faults

    def document(self) -> dict[str, Any]:
        """For a program to read."""
        found = self.found
        return {
            "good": self.good,
            "faults": self.faults,
            "items": {
                "published": found.published, "stored": found.stored, "duplicate": found.duplicate,
                "dead_lettered": found.dead_lettered, "lost": found.lost, "versions": found.versions,
            },
            "dead_letters": dict(found.dead_by_reason),
            "alerts": [
                {
                    "patient": alert.patient, "rule": alert.rule, "priority": alert.priority,
                    "onset": round(alert.onset - self.start, 3), "state": alert.state, "hindsight": alert.hindsight,
                }
                for alert in self.alerts
            ],
        }  # fmt: skip

    def lines(self) -> list[str]:
        """For a person to read."""
        found = self.found
        told = [
            f"published {found.published:,}, stored {found.stored:,}, duplicate {found.duplicate:,},"
            f" dead-lettered {found.dead_lettered:,}, lost {found.lost:,}"
        ]
        told += [
            f"  alert {alert.onset - self.start:9.1f} s  {alert.priority:<6}  {alert.rule} ({alert.state}),"
            f" {alert.patient}"
            for alert in self.alerts
        ]
        told += [f"! {fault}" for fault in self.faults]
        told.append("as expected" if self.good else "NOT as expected")
        return told


def conclude(
    scenario: Scenario, journal: Path, dsn: str, schema: str, *, still_s: float, patience_s: float = 90.0
) -> Verdict:
    """Wait until all is quiet and judge.

    Parameters
    ----------
    still_s
        How long after the last sample analysis and alerting may still have something to say.
    """
    settle([journal], dsn, schema, still_s=still_s, patience_s=patience_s)
    return verdict(scenario, journal, dsn, schema)


def verdict(scenario: Scenario, journal: Path, dsn: str, schema: str) -> Verdict:
    """Judge what is there now."""
    players, start = players_of(journal)
    found = reckon(journal, dsn, schema)
    alerts = alerts_of(dsn, schema, list(players))
    return Verdict(judge(scenario, players, start, alerts, found), found, alerts, start)
