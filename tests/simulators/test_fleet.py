"""Simulated devices on a real broker: all is sent, all is receipted, and the journal says what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.simulators.conftest import Desk
from vitalgate.client.protocol import Policy
from vitalgate.devices import catalogue
from vitalgate.simulators import journal as journals
from vitalgate.simulators.cast import Cast, assemble, cast
from vitalgate.simulators.clock import VirtualClock
from vitalgate.simulators.fleet import Fleet
from vitalgate.simulators.scenario import Scenario, check

KINDS = catalogue.load()


class NoRegistry:
    """A broker without rules needs no registry; hand-overs are written down."""

    def __init__(self) -> None:
        self.handed: list[tuple[str, str]] = []

    def enrol(self, members: Cast, since: float) -> Mapping[str, str]:
        return {prop.device: "any" for prop in members.props}

    def hand_over(self, device: str, patient: str, since: float) -> None:
        self.handed.append((device, patient))


def build(scenario: Scenario, port: int, path: Path, speed: float = 1.0) -> tuple[Fleet, Cast, NoRegistry]:
    registry = NoRegistry()
    clock = VirtualClock.for_run(scenario.seconds, speed)
    members = cast(scenario, clock, prefix="t", seed=1)
    book = journals.Journal(path)
    fleet = assemble(
        scenario, members, registry.enrol(members, clock.start), clock, book, KINDS, registry,
        host="127.0.0.1", port=port, policy=Policy(first_s=1.0, cap_s=2.0),
    )  # fmt: skip
    return fleet, members, registry


def scenario(seconds: float, devices: list[object], events: list[object] | None = None) -> Scenario:
    return check(
        {
            "name": "t", "title": "t", "seconds": seconds, "events": events or [],
            "patients": [{"name": "a", "devices": devices}, {"name": "b"}],
        },
        "test", KINDS.kinds,
    )  # fmt: skip


def test_every_kind_speaks_and_is_receipted(open_broker: int, desk: Desk, tmp_path: Path) -> None:
    devices: list[object] = [{"kind": kind, "every": 20} for kind in KINDS.kinds]
    fleet, members, _ = build(scenario(60, devices), open_broker, tmp_path / "j.sqlite", speed=20)
    assert asyncio.run(fleet.run())
    book = journals.read(tmp_path / "j.sqlite")
    spoke = {row[0] for row in book.execute("SELECT DISTINCT kind FROM messages WHERE leaf <> 'status'")}
    assert spoke == set(KINDS.kinds)
    assert book.execute("SELECT count(*) FROM messages WHERE sends = 0").fetchone() == (0,)
    assert book.execute("SELECT count(DISTINCT device) FROM receipts").fetchone() == (len(members.props),)
    assert {row[0] for row in book.execute("SELECT DISTINCT wire FROM messages")} == {"json", "cbor"}
    assert all("sent_at" not in document for document in desk.documents("readings"))


def test_a_device_that_was_offline_catches_up_and_one_that_is_not_heard_sends_again(
    open_broker: int, desk: Desk, tmp_path: Path
) -> None:
    events: list[object] = [{"at": 2, "device": "a", "do": "offline", "seconds": 2}]
    fleet, _, _ = build(
        scenario(5, [{"kind": "pulse-oximeter", "waveforms": False}], events), open_broker, tmp_path / "j.sqlite"
    )

    async def run() -> bool:
        asyncio.get_running_loop().call_later(0.5, setattr, desk, "deaf", True)
        asyncio.get_running_loop().call_later(1.5, setattr, desk, "deaf", False)
        return await fleet.run()

    assert asyncio.run(run())
    assert fleet.devices[0].connects == 2
    book = journals.read(tmp_path / "j.sqlite")
    made, sent = book.execute("SELECT count(*), sum(sends) FROM messages").fetchone()
    assert made >= 6
    assert sent > made
    kept = next(iter(desk.kept.values()))
    assert kept == set(range(1, made + 1))
    times = [reading["time"] for document in desk.documents("readings") for reading in document["readings"]]
    assert len({time[:19] for time in times}) >= 5


def test_events_correct_repeat_resend_and_spoil(open_broker: int, desk: Desk, tmp_path: Path) -> None:
    events: list[object] = [
        {"at": 3, "device": "a/pulse-oximeter", "do": "correct", "metric": "spo2", "change": -2, "count": 2},
        {"at": 3, "device": "a/pulse-oximeter", "do": "repeat", "count": 2},
        {"at": 3.2, "device": "a/pulse-oximeter", "do": "resend", "count": 3},
        {"at": 3.3, "device": "a/pulse-oximeter", "do": "garbage", "what": "undecodable", "count": 2},
        {"at": 3.4, "device": "a/pulse-oximeter", "do": "garbage", "what": "unknown-metric"},
        {"at": 3.5, "device": "a/pulse-oximeter", "do": "hand-over", "to": "b"},
    ]
    fleet, _, registry = build(scenario(5, ["pulse-oximeter"], events), open_broker, tmp_path / "j.sqlite")
    assert asyncio.run(fleet.run())
    book = journals.read(tmp_path / "j.sqlite")
    expected = dict(book.execute("SELECT expect, count(*) FROM items GROUP BY expect").fetchall())
    assert expected["version"] == 2
    repeated = book.execute("SELECT count(*) FROM items JOIN messages ON id = message WHERE note = 'repeat'").fetchone()
    assert repeated == (expected["duplicate"],)
    assert expected["dead:undecodable"] == 2
    assert expected["dead:unknown_metric"] == 1
    assert book.execute("SELECT count(*) FROM messages WHERE sends = 2").fetchone() == (3,)
    assert registry.handed == [("t-a-pulse-oximeter", "t-b")]
    assert [who for (who,) in book.execute("SELECT DISTINCT patient FROM messages ORDER BY patient")] == ["t-a", "t-b"]
    corrections = {
        document["seq"]: reading["corrects"]
        for document in desk.documents("readings")
        for reading in document.get("readings", [])
        if isinstance(reading, dict) and "corrects" in reading
    }
    assert len(corrections) == 2
    assert all(set(each) == {"epoch", "seq", "index"} for each in corrections.values())


def test_a_refused_password_is_told(open_broker: int, tmp_path: Path) -> None:
    fleet, _, _ = build(scenario(1, ["scale"]), 1, tmp_path / "j.sqlite")
    assert not asyncio.run(fleet.run(drain_s=0.3))
    assert "refused" in fleet.devices[0].refused.lower()


def test_a_clock_may_not_run_slow_and_an_accelerated_run_ends_now() -> None:
    with pytest.raises(ValueError, match=r"speed 0\.5 is not usable"):
        VirtualClock.for_run(60, 0.5)
    clock = VirtualClock.for_run(3600, 60, now=1000.0)
    assert clock.start == 1000 + 60 - 3600
    assert clock.wall(clock.start + 3600) == 1060
    assert clock.accelerated
