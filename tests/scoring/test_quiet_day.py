"""A quiet day in short: stable people through intake, analysis and rules; and how a day is judged."""

from __future__ import annotations

import json
from collections import Counter

from click.testing import CliRunner

from vitalgate.cli.alerts import command
from vitalgate.devices import catalogue
from vitalgate.scoring.quiet_day import Day, people, quiet_day


def test_an_afternoon_of_stable_people_gives_no_more_than_one_alarm_each() -> None:
    """In their busiest hours; the whole day of all fifty is `vitalgate alerts quiet-day`."""
    day = quiet_day(patients=5, hours=2.0, ecg_hours=0.01, seed=3, begin_h=15.0)
    assert day.good, day.document()["told"]
    assert day.refused == 0 and day.messages > 2_000 and day.readings > day.messages
    assert day.ecg_hours > 0, "somebody wears a patch"


def test_fifty_people_wear_every_kind_of_device() -> None:
    assert len(people(50, 1)) == len(set(people(50, 1))) == 50
    assert len(people(7, 1)) == 7
    kinds = quiet_day(patients=50, hours=0.001, ecg_hours=0).kinds
    assert set(kinds) == set(catalogue.load().kinds)


def test_a_day_is_judged_by_whom_it_troubles_most() -> None:
    day = Day(24.0, ["a", "b"], told=[("a", "spo2-low", 5.0, ""), ("b", "pause", 9.0, "")], untold=Counter(pause=3))
    assert day.good and day.per_patient_day == 1.0
    worse = Day(24.0, ["c"], told=[("c", "pause", 1.0, ""), ("c", "pause", 9.0, "")])
    worse.add(day)
    assert worse.most == 2 and not worse.good
    assert not Day(24.0, ["a"], refused=1).good, "what is refused raises no alarm"
    assert Day(48.0, ["a"], told=[("a", "pause", 1.0, ""), ("a", "pause", 9.0, "")]).good


def test_the_command_prints_the_figure_and_fails_when_the_bar_is_missed() -> None:
    options = ["quiet-day", "--patients", "2", "--hours", "0.2", "--ecg-hours", "0", "--processes", "1"]
    told = CliRunner().invoke(command, options)
    assert told.exit_code == 0 and "0 alarms: 0 per patient and day, at most 0 of one patient (bar: 1)" in told.output
    found = json.loads(CliRunner().invoke(command, [*options, "--json"]).output)
    assert (found["patients"], found["alarms_per_patient_day"], found["good"]) == (2, 0.0, True)
