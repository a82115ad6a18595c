"""The demo: simulated patients and an ECG replay through the whole system, then a reckoning from outside."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from vitalgate.devices.catalogue import Catalogue
from vitalgate.simulators.cast import Cast, Registry, assemble, cast, new_prefix, together
from vitalgate.simulators.clock import VirtualClock
from vitalgate.simulators.demo_cast import demo_scenario
from vitalgate.simulators.demo_measures import device_to_alert, latest_values, score_simulated
from vitalgate.simulators.fleet import Fleet, Progress
from vitalgate.simulators.journal import Journal
from vitalgate.simulators.quiet import wait_for_analysis, wait_for_rows
from vitalgate.simulators.reckoning import Reckoning, percentile, reckon
from vitalgate.simulators.recordings import Recording
from vitalgate.simulators.replay import assemble_replay, members_of, parts_of, seconds_of
from vitalgate.simulators.scoring import Detector, Matcher, Scored, pooled, score
from vitalgate.simulators.watch import AlertWatch, Arrived

REPLAY_SPEED = 10.0
"""At most so many recorded seconds go into one of the demo."""
_LEAD_S, _LEAD_EACH_S = 0.2, 0.006
"""From building the fleets to the first message, in all and a device: time for the connections to come up."""


@dataclass(frozen=True)
class System:
    """What the demo needs of a running system; the command brings it."""

    host: str
    port: int
    dsn: str
    schema: str
    observer: tuple[str, str]
    """A user that may read the alert topics, and its password."""
    registry: Registry
    catalogue: Catalogue
    ledger: Callable[[], Any]
    """Reads the ledger: `.balanced`, `.faults`, `.received`, `.in_flight`."""
    detect: Detector
    match: Matcher
    still_s: float
    """How long after the last sample the analysis may still have something to say."""
    tls: ssl.SSLContext | None = None
    """A context for encrypted connections to the broker."""


@dataclass
class Demo:
    """What came of it."""

    seconds: float
    """Of the machine's time, from the first message to the last receipt."""
    patients: int
    devices: int
    reckoning: Reckoning
    balanced: bool
    faults: list[str]
    arrived: list[Arrived]
    device_to_alert_ms: tuple[list[float], list[float]]
    """Of alerts of readings, and of the ECG."""
    scored: list[Scored]
    """Replayed recordings."""
    simulated: Scored | None
    """The simulated hearts, whose beats are known."""
    latest: dict[str, dict[str, str]]
    """Each patient's latest values, by metric."""
    journal: Path
    picture: Path | None = None
    strip: tuple[str, float, float] | None = None
    """(patient, start, seconds) of a stretch of ECG worth looking at."""

    @property
    def good(self) -> bool:
        """Nothing lost, nothing altered, and the ledger balances."""
        return self.balanced and not self.reckoning.lost and not self.reckoning.wrong

    def document(self) -> dict[str, Any]:
        """What `vitalgate demo --json` prints."""
        found = self.reckoning

        def latency(values: Sequence[float]) -> dict[str, float | None]:
            return {
                name: None if (value := percentile(values, share)) is None else round(value, 1)
                for name, share in (("p50", 0.50), ("p99", 0.99))
            }

        gross = pooled(self.scored) if self.scored else None
        return {
            "published": found.published - found.unconfirmed,
            "acked": found.acked,
            "stored": found.stored,
            "duplicate": found.duplicate,
            "dead_lettered": found.dead_lettered,
            "lost": found.lost,
            "features": found.features,
            "beats": found.beats,
            "alerts": found.alerts,
            "latency_ms": {
                "device_to_row": latency(found.device_to_row_ms),
                "device_to_alert": latency(self.device_to_alert_ms[0]),
                "packet_to_ecg_alert": latency(self.device_to_alert_ms[1]),
            },
            "balanced": self.balanced and not found.lost,
            "patients": self.patients,
            "devices": self.devices,
            "kinds": dict(found.by_kind),
            "readings": found.readings,
            "versions": found.versions,
            "waveform_blocks": found.waveforms,
            "samples": found.samples,
            "dead_letters": dict(found.dead_by_reason),
            "unconfirmed": found.unconfirmed,
            "alerts_arrived": len(self.arrived),
            "beats_scored": None
            if gross is None
            else {
                "recordings": len(self.scored), "se": gross.se, "ppv": gross.ppv, "tp": gross.tp, "fn": gross.fn,
                "fp": gross.fp, "same_as_offline": gross.differing == 0,
            },
            "faults": [*self.faults, *found.wrong],
            "journal": str(self.journal),
            "picture": str(self.picture) if self.picture else None,
        }  # fmt: skip


@dataclass
class Show:
    """Tells a display how it goes; every call may be ignored."""

    phase: Callable[[str], None] = field(default=lambda _text: None)
    progress: Callable[[Sequence[Progress], int], None] = field(default=lambda _progress, _alerts: None)


def run_demo(
    system: System, *, patients: int, seconds: float, recordings: Sequence[Recording], seed: int, journal: Path,
    show: Show, patience_s: float = 90.0,
) -> Demo:  # fmt: skip
    """Register, send, wait until all is quiet, reckon."""
    scenario = demo_scenario(patients, seconds)
    prefix = new_prefix("demo")
    show.phase(f"registering {patients} patients and their devices")
    parts = parts_of(recordings, system.catalogue, prefix=prefix, team="care")
    longest = seconds_of(parts) if parts else 0.0
    first = cast(scenario, VirtualClock.for_run(seconds), prefix=prefix, seed=seed)
    passwords = system.registry.enrol(together(first, members_of(parts)), time.time() - longest - 60)
    book = Journal(journal)
    # Enrolment took its time; the hearts start to beat now.
    begin = time.time() + _LEAD_S + _LEAD_EACH_S * len(passwords)
    clock = VirtualClock.for_run(seconds, 1.0, begin)
    members = cast(scenario, clock, prefix=prefix, seed=seed)
    fleets = [
        assemble(
            scenario, members, passwords, clock, book, system.catalogue, system.registry, host=system.host,
            port=system.port, tls=system.tls,
        )
    ]  # fmt: skip
    if parts:
        past = VirtualClock.for_run(longest, max(1.0, longest / seconds), begin)
        fleets.append(
            assemble_replay(
                parts, passwords, past, book, system.catalogue, host=system.host, port=system.port, tls=system.tls
            )
        )
    with AlertWatch(system.host, system.port, *system.observer, tls=system.tls) as watch:
        began = time.monotonic()
        show.phase("sending")
        asyncio.run(_send(fleets, show, watch))
        took = time.monotonic() - began
        show.phase("waiting until all is stored")
        wait_for_rows(journal, system.dsn, system.schema, patience_s)
        show.phase("waiting until all is analysed")
        wait_for_analysis(
            [journal], system.dsn, system.schema, still_s=system.still_s, patience_s=patience_s,
            alerts=lambda: len(watch.arrived()),
        )  # fmt: skip
        arrived = [one for one in watch.arrived() if str(one.alert.get("patient", "")).startswith(prefix)]
    book.close()
    show.phase("reckoning")
    found = reckon(journal, system.dsn, system.schema)
    ledger = system.ledger()
    with psycopg.connect(system.dsn, autocommit=True, options=f"-c search_path={system.schema}_data") as database:
        return Demo(
            took, patients, len(members.props) + len(parts), found, bool(ledger.balanced), list(ledger.faults), arrived,
            device_to_alert(database, journal, arrived),
            score(parts, system.dsn, system.schema, system.detect, system.match),
            score_simulated(database, members, system.match), latest_values(database, members), journal,
            strip=_strip(members, clock, seconds),
        )  # fmt: skip


async def _send(fleets: Sequence[Fleet], show: Show, watch: AlertWatch) -> None:
    newest: dict[int, Progress] = {}

    def of(index: int) -> Callable[[Progress], None]:
        def tell(progress: Progress) -> None:
            newest[index] = progress
            show.progress(list(newest.values()), len(watch.arrived()))

        return tell

    await asyncio.gather(*(fleet.run(of(index)) for index, fleet in enumerate(fleets)))


def _strip(members: Cast, clock: VirtualClock, seconds: float) -> tuple[str, float, float] | None:
    """Ten seconds of the heart with most to see: the slow one, else the first."""
    if not members.players:
        return None
    chosen = next((player for player in members.players if "slow" in player.role), members.players[0])
    return chosen.patient, clock.start + min(8.0, seconds / 4) - 1.0, min(10.0, seconds / 2)
