"""What counts as lost, as a duplicate and as a difference; plans and tallies; traffic that is the same at any time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vitalgate.devices import catalogue
from vitalgate.simulators.cast import cast
from vitalgate.simulators.clock import VirtualClock
from vitalgate.torture import fault, reliability, traffic
from vitalgate.torture.outcome import Outcome, compare
from vitalgate.torture.plan import plan
from vitalgate.torture.round import Result
from vitalgate.torture.tally import Tally

_READING = ("a/ox", "spo2", "", 5, 0, 1, True, False, 97.0, None, None, None, "%")
_REFERENCE = Outcome(
    readings=[_READING],
    recordings=[("b/ecg", "ecg.II", "r", 0, 500, 500, "aa")],
    beats=[("b/ecg", "ecg.II", "r", 100, "N", 800.0)],
    features=[("b/ecg", "ecg.II", "r", "event.pause", 100, 900, 3.6, "s")],
    alerts=[("b", "pause", 29000)],
)


def _changed(**rows: list[tuple[object, ...]]) -> Outcome:
    return Outcome(**{**_REFERENCE.__dict__, **rows})


def test_equal_is_equal_also_after_json() -> None:
    again = Outcome.of(json.loads(json.dumps(_REFERENCE.document())))
    assert not compare(_REFERENCE, again).any


def test_a_missing_reading_is_lost_and_a_further_version_a_duplicate() -> None:
    assert compare(_REFERENCE, _changed(readings=[])).lost == 1
    found = compare(_REFERENCE, _changed(readings=[_READING, (*_READING[:5], 2, *_READING[6:])]))
    assert (found.lost, found.extra, found.other) == (0, 1, 0)
    twice = compare(_REFERENCE, _changed(readings=[_READING, _READING]))
    assert twice.extra == 1


def test_another_value_is_a_difference_and_says_so() -> None:
    found = compare(_REFERENCE, _changed(readings=[(*_READING[:8], 96.0, *_READING[9:])]))
    assert (found.lost, found.extra, found.other) == (0, 0, 1)
    assert "97.0" in found.told[0]
    assert "96.0" in found.told[0]


def test_samples_that_are_missing_are_lost_and_those_that_differ_are_a_difference() -> None:
    short = compare(_REFERENCE, _changed(recordings=[("b/ecg", "ecg.II", "r", 0, 500, 400, "bb")]))
    assert (short.lost, short.other) == (1, 1)
    other = compare(_REFERENCE, _changed(recordings=[("b/ecg", "ecg.II", "r", 0, 500, 500, "bb")]))
    assert (other.lost, other.other) == (0, 1)


@pytest.mark.parametrize("name", ["beats", "features", "alerts"])
def test_a_result_that_is_missing_is_a_difference_but_nothing_lost(name: str) -> None:
    found = compare(_REFERENCE, _changed(**{name: []}))
    assert (found.lost, found.missing, found.extra) == (0, 1, 0)


def test_patients_may_be_left_out() -> None:
    assert not compare(_REFERENCE.without({"a"}), _changed(readings=[]).without({"a"})).any


def test_the_plan_is_the_seed_s_and_gives_every_fault_its_turn() -> None:
    faults = [(one,) for one in fault.known().values() if not one.shape.small_disks]
    planned = plan(1, len(faults), 7, faults)
    assert planned == plan(1, len(faults), 7, faults)
    assert {one.faults[0].name for one in planned} == {one.name for (one,) in faults}
    assert all(len({each.shape for each in one.faults}) == 1 for one in planned)
    assert [one.faults for one in plan(9, 1, 7, faults)] == [
        one.faults for one in plan(1, 20, 7, faults) if one.number == 9
    ]
    alone = plan(5, 1, 7, fault.choose(["kill-worker+poison"]))
    assert [one.name for one in alone[0].faults] == ["kill-worker", "poison"]


def test_an_unknown_fault_is_refused_with_what_there_is() -> None:
    with pytest.raises(fault.UnknownFault, match=r"no fault 'rain'.*kill-gateway"):
        fault.choose(["rain"])


def test_every_row_of_the_table_has_a_fault_that_explains_itself() -> None:
    known = fault.known()
    assert {one.row for one in known.values()} == set(fault.ROWS)
    assert all(len(one.title) > 10 for one in known.values())


def test_two_rounds_of_one_seed_send_the_same_but_for_the_time() -> None:
    kinds = catalogue.load()
    sent = []
    for begin in (1_790_000_000.25, 1_800_000_321.75):
        clock = traffic.clock_at(begin)
        assert clock.start == int(clock.start)
        assert clock.wall(clock.start + traffic.SECONDS) <= begin + traffic.SECONDS
        shift = int(clock.start) - traffic.ORIGIN
        members = cast(traffic.SCENARIO, VirtualClock(traffic.ORIGIN, 2.0, begin), prefix="x", seed=3)
        rows = []
        for prop in members.props:
            firmware = traffic._firmware(kinds, prop, shift)
            for emission in firmware.emissions(clock.start + traffic.SECONDS):
                items = [(one.time_us - shift * 1_000_000, one.value, one.samples_hash) for one in emission.items]
                rows.append((prop.device, emission.at - clock.start, emission.leaf, items))
        sent.append(rows)
    assert sent[0] == sent[1]
    assert len(sent[0]) > 250


def test_a_tally_is_kept_and_told(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "state")
    good = Result(1, 3, ["kill-gateway"], "one of each", "2026-01-05T00:00:00+00:00", 30.0, 300, resume_s=1.5)
    bad = Result(2, 3, ["kill-broker", "poison"], "one of each", "2026-01-05T00:01:00+00:00", 40.0, 300, lost=2)
    bad.wrong = ["readings: one is missing"]
    tally.add(good)
    tally.add(bad)
    assert [one.good for one in tally.rounds()] == [True, False]
    page = reliability.page(tally.rounds(), None)
    assert "2 rounds, 1 of them without fault, 600 messages; seed 3" in page
    assert "--seed 3 --faults kill-broker+poison --first 2 --rounds 1" in page
    assert "{" not in page.replace("{device}", "")
    tally.clear()
    assert not tally.rounds()


def test_a_reference_of_other_code_is_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally(tmp_path)
    assert tally.keep_reference(4, _REFERENCE) == _REFERENCE
    assert tally.reference(4) == _REFERENCE
    assert tally.reference(5) is None
    monkeypatch.setattr("vitalgate.torture.tally.code", lambda: "other")
    assert tally.reference(4) is None
