"""Simulated patients through the whole system: every shipped scenario comes out as its file says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vitalgate.cli._enrol import SystemRegistry
from vitalgate.cli._signal import detect, match
from vitalgate.devices import catalogue
from vitalgate.simulators.cast import assemble, cast, new_prefix
from vitalgate.simulators.clock import VirtualClock
from vitalgate.simulators.journal import Journal
from vitalgate.simulators.quiet import settle
from vitalgate.simulators.reckoning import Reckoning, reckon
from vitalgate.simulators.recordings import read
from vitalgate.simulators.replay import assemble_replay, members_of, parts_of, seconds_of
from vitalgate.simulators.run import Verdict, verdict
from vitalgate.simulators.scenario import load, shipped
from vitalgate.simulators.scoring import Scored, pooled, score
from vitalgate.testing.deployment import Deployment
from vitalgate.testing.device import TestedDevice, values

pytestmark = pytest.mark.stack
KINDS = catalogue.load()
#: Scenarios about clocks need the real one; the others hurry, so that all of them together take half a minute.
REAL_TIME = {"clock-skew"}
LONGEST_S = 20.0
RECORDS, RECORDED_S, REPLAY_SPEED = ("101", "208"), 120.0, 12.0


@pytest.fixture(scope="module")
def played(vitalgate_stack: Deployment, tmp_path_factory: pytest.TempPathFactory, ecg_data: Path) -> Played:
    """All scenarios at once, as different patients do at home, and two recordings beside them."""
    folder = tmp_path_factory.mktemp("journals")
    settings = vitalgate_stack.settings
    registry = SystemRegistry(settings)
    scenarios = {name: load(name, KINDS.kinds) for name in shipped()}
    speeds = {
        name: 1.0 if name in REAL_TIME else max(1.0, scenario.speed, scenario.seconds / LONGEST_S)
        for name, scenario in scenarios.items()
    }
    prefixes = {name: new_prefix() for name in scenarios}
    passwords = {}
    for name, scenario in scenarios.items():
        early = VirtualClock.for_run(scenario.seconds, speeds[name])
        passwords[name] = registry.enrol(cast(scenario, early, prefix=prefixes[name], seed=1), early.start - 60)
    recordings = [read(ecg_data / "mitdb" / record, RECORDED_S) for record in RECORDS]
    parts = parts_of(recordings, KINDS, prefix=new_prefix("replay"), team="care")
    keys = registry.enrol(members_of(parts), time.time() - RECORDED_S - 60)
    journals = {name: Journal(folder / f"{name}.sqlite") for name in (*scenarios, "replay")}
    fleets = []
    begin = time.time() + 2
    where = {"host": vitalgate_stack.host, "port": vitalgate_stack.port}
    for name, scenario in scenarios.items():
        clock = VirtualClock.for_run(scenario.seconds, speeds[name], begin)
        members = cast(scenario, clock, prefix=prefixes[name], seed=1)
        fleets.append(
            assemble(scenario, members, passwords[name], clock, journals[name], KINDS, registry, **where)  # type: ignore[arg-type]
        )
    past = VirtualClock.for_run(seconds_of(parts), REPLAY_SPEED, begin)
    fleets.append(assemble_replay(parts, keys, past, journals["replay"], KINDS, **where))  # type: ignore[arg-type]

    async def run() -> None:
        await asyncio.gather(*(fleet.run() for fleet in fleets))

    asyncio.run(run())
    for book in journals.values():
        book.close()
    dsn, schema = settings.database.dsn, settings.database.db_schema
    settle([book.path for book in journals.values()], dsn, schema, still_s=settings.analysis.idle_s + 3, patience_s=90)
    verdicts = {name: verdict(scenarios[name], journals[name].path, dsn, schema) for name in scenarios}
    return Played(verdicts, reckon(journals["replay"].path, dsn, schema), score(parts, dsn, schema, detect, match))


@dataclass(frozen=True)
class Played:
    """What came of it."""

    verdicts: dict[str, Verdict]
    replayed: Reckoning
    scored: list[Scored]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", shipped())
def test_a_scenario_comes_out_as_its_file_says(name: str, played: Played) -> None:
    assert not played.verdicts[name].faults, "\n".join(played.verdicts[name].lines())


def test_replayed_recordings_give_the_beats_of_the_detector_offline(played: Played) -> None:
    assert not played.replayed.lost
    assert played.replayed.samples == len(RECORDS) * 2 * RECORDED_S * 360
    gross = pooled(played.scored)
    assert gross.found > 300
    assert not gross.differing
    assert (gross.se or 0) > 0.99
    assert (gross.ppv or 0) > 0.99


def test_a_device_of_a_maker_under_test(vitalgate_device: Callable[..., TestedDevice]) -> None:
    cuff = vitalgate_device("bp-cuff")
    cuff.send(
        {"metric": "bp_systolic", "value": 192, "unit": "mm[Hg]", "group": "m1"},
        {"metric": "bp_diastolic", "value": 101, "unit": "mm[Hg]", "group": "m1"},
        {"metric": "bp_mean", "value": 900, "unit": "mm[Hg]"},
    )
    assert values(cuff.readings(at_least=2)) == {"bp_systolic": 192, "bp_diastolic": 101}
    (refused,) = cuff.dead_letters()
    assert refused["reason"] == "out_of_range"
    (alert,) = cuff.alerts()
    assert (alert["rule"], alert["priority"]) == ("blood-pressure-crisis", "high")


def test_a_scenario_of_somebody_elses(vitalgate_scenario: Callable[..., dict[str, Any]]) -> None:
    mine = {
        "name": "mine", "title": "Mine", "seconds": 8,
        "patients": [
            {
                "name": "a", "changes": [{"what": "temperature", "set": [[0, 36.6], [4, 36.6], [4.1, 39.6]]}],
                "devices": [{"kind": "thermometer", "every": 2, "first": 1, "units": {"temperature": "[degF]"}}],
            }
        ],
        "expect": {
            "alerts": [{"patient": "a", "rule": "temperature-high", "priority": "medium", "onset": 5}],
        },
    }  # fmt: skip
    told = vitalgate_scenario(mine)
    # One of the two is not expected here, and nothing else is amiss.
    assert not told["good"]
    (fault,) = told["faults"]
    assert "temperature-raised (low) at 5.0 s, raised, was not expected" in fault


@pytest.mark.timeout(300)
def test_the_demo_loses_nothing(vitalgate_stack: Deployment, tmp_path: Path) -> None:
    picture = tmp_path / "strip.png"
    told = vitalgate_stack.command(
        "demo", "--patients", "8", "--seconds", "12", "--picture", str(picture), "--json", status=None
    )
    assert told["balanced"], told["faults"]
    assert told["lost"] == 0
    assert told["published"] == told["acked"]
    assert told["published"] == told["stored"] + told["duplicate"] + told["dead_lettered"]
    assert set(told["kinds"]) == set(KINDS.kinds)
    assert min(told["versions"], told["duplicate"], told["dead_lettered"]) >= 20
    assert told["alerts"] >= 5
    assert told["beats"] > 80
    assert told["latency_ms"]["device_to_row"]["p50"] < 2000
    assert told["latency_ms"]["device_to_alert"]["p50"] < 2000
    assert picture.read_bytes().startswith(b"\x89PNG")
