"""Overrides with their stretches of time, cohorts, facts, quiet hours, local days; and rules that can never fire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.alerts.feeding import engine, feature, given, reading, take_feature, us
from vitalgate.alerts import checks, profile, rule_check, rules
from vitalgate.alerts.conditions import Silent
from vitalgate.alerts.days import day_end, local, quiet_until
from vitalgate.alerts.engine import Engine
from vitalgate.alerts.events import AlertEvent, when
from vitalgate.alerts.rule import Rule
from vitalgate.alerts.simulation import Sample, simulate
from vitalgate.devices.records import Status

SHIPPED = rules.load().rules
BERLIN = ((-(1 << 62), "Europe/Berlin"),)
WHO = {"author": "dr-x", "reason": "COPD"}


def iso(at: float) -> str:
    return when(us(at)).isoformat()


def make(*ids: str) -> Engine:
    return Engine(rules.Book([SHIPPED[name] for name in ids]), "care")


def low(subject: Engine, at: float, value: float, seq: int, metric: str = "glucose") -> list[AlertEvent]:
    return subject.take(given(reading(metric, at, value), seq=seq), us(at))


def told(events: list[AlertEvent]) -> list[tuple[str, float]]:
    return [(e.happened, e.onset.timestamp() - us(0) / 1e6) for e in events]


def test_a_limit_holds_for_its_stretch_of_event_time_whatever_the_order() -> None:
    own = {"glucose-low": {"limit": 60, "from": iso(1000), "to": iso(2000), **WHO}}
    values = [(500, 65.0), (900, 100.0), (1500, 65.0), (1700, 100.0), (2500, 65.0)]
    for order in (values, values[::-1]):
        subject = make("glucose-low")
        subject.tick(us(3000), us(3000))
        subject.patient_changed("p1", "", own, 0)
        for at, value in order:
            low(subject, at, value, round(at))
        found = [(onset - us(0)) / 1e6 for _, onset, state, _ in subject.alerts("p1") if state != "retracted"]
        assert found == [500, 2500]


def test_an_open_alert_ends_where_another_limit_begins_and_a_tick_says_so() -> None:
    subject = make("glucose-low")
    subject.tick(us(0), us(0))
    subject.patient_changed("p1", "", {"glucose-low": {"limit": 60, "from": iso(1000), **WHO}}, 0)
    assert told(low(subject, 10, 65.0, 1)) == [("raised", 10)]
    assert subject.tick(us(999), us(999)) == []
    (over,) = subject.tick(us(1000), us(1000))
    assert over.happened == "cleared" and over.cleared_at == when(us(1000))


def test_what_is_bad_before_its_limit_begins_is_raised_when_it_does() -> None:
    subject = make("glucose-low")
    subject.tick(us(0), us(0))
    subject.patient_changed("p1", "", {"glucose-low": {"enabled": False, "to": iso(1000), **WHO}}, 0)
    assert low(subject, 10, 65.0, 1) == []
    assert told(subject.tick(us(1000), us(1000))) == [("raised", 1000)]


def test_the_patients_own_limit_before_the_cohorts() -> None:
    subject = make("glucose-low")
    subject.cohort_changed("fragile", {"glucose-low": {"limit": 80, **WHO}}, 0)
    subject.patient_changed("p1", "", {"_cohorts": ["fragile"]}, 0)
    assert told(low(subject, 10, 75.0, 1)) == [("raised", 10)]
    (back,) = subject.patient_changed(
        "p1", "", {"_cohorts": ["fragile"], "glucose-low": {"limit": 70, **WHO}}, us(20)
    )  # fmt: skip
    assert back.happened == "retracted" and back.reason == "limits changed"
    assert told(subject.patient_changed("p1", "", {"_cohorts": ["fragile"]}, us(30))) == [("raised", 10)]
    (back,) = subject.cohort_changed("fragile", None, us(40))
    assert back.happened == "retracted"


def test_facts_count_from_their_time_on() -> None:
    subject = make("peak-flow-low")
    subject.tick(us(0), us(0))
    best = [{"value": 400}, {"value": 600, "from": iso(1000)}]
    subject.patient_changed("p1", "", {"_facts": {"pef_best": best}}, 0)
    assert low(subject, 10, 300.0, 1, "pef") == []
    (event,) = low(subject, 1010, 300.0, 2, "pef")
    assert event.limit == 360.0 and "60 % of the personal best (limit 360 L/min)" in event.text


def test_news2_says_what_it_lacks_and_changes_with_the_scale() -> None:
    subject = make("news2-high", "news2-red")
    subject.tick(us(0), us(0))
    for seq, (metric, value) in enumerate({"temperature": 36.8, "pulse_rate": 70.0, "bp_systolic": 120.0}.items()):
        assert low(subject, 5, value, seq, metric) == []
    events = low(subject, 10, 90.0, 9, "spo2")
    assert [(e.rule, e.metric, e.value) for e in events] == [("news2-red", "news2", 3.0)]
    assert events[0].note == "incomplete, without respiration rate, air or oxygen, consciousness"
    (back,) = subject.patient_changed("p1", "", {"_facts": {"spo2_scale": 2}}, us(20))
    assert (back.happened, back.reason) == ("retracted", "limits changed")


def test_quiet_hours_silence_low_and_medium_until_they_are_over() -> None:
    subject = make("glucose-low", "glucose-very-low")
    subject.patient_changed("p1", "", {"glucose-low": {"quiet_hours": "22:00-07:00", **WHO}}, 0, BERLIN)
    evening = (day_end(BERLIN, us(0)) - us(0)) / 1e6 - 3600
    subject.tick(us(evening), us(evening))
    (event,) = low(subject, evening, 65.0, 1)
    assert event.silenced_by == "quiet hours" and not event.notify
    assert event.silenced_until is not None and local(BERLIN, round(event.silenced_until.timestamp() * 1e6)).hour == 7
    morning = evening + 8 * 3600
    assert subject.tick(us(morning - 1), us(morning - 1)) == []
    (awake,) = subject.tick(us(morning), us(morning))
    assert awake.happened == "unsilenced" and awake.notify


def test_days_of_23_and_25_hours_end_at_the_patients_midnight() -> None:
    spring, autumn = (
        1_774_738_800_000_000,
        1_792_882_800_000_000,
    )  # the midnights of two changes
    assert day_end(BERLIN, spring) - spring == 23 * 3_600_000_000
    assert day_end(BERLIN, autumn + 3_600_000_000) > autumn
    assert quiet_until(BERLIN, "22:00-07:00", spring) == spring + 6 * 3_600_000_000
    assert quiet_until(BERLIN, "12:00-14:00", spring) is None


def test_a_handed_over_device_is_not_missed() -> None:
    subject = make("device-silent")
    subject.tick(us(0), us(0))
    record = given(seq=1, device="patch")
    record.message.device_kind = "ecg-patch"
    record.message.status = Status(item=0, state="online", time_us=us(0))
    subject.devices_changed("p1", {"patch": [(us(-100), us(500))]}, 0)
    assert subject.take(record, us(0)) == []
    assert subject.tick(us(5000), us(5000)) == []
    (event,) = subject.devices_changed("p1", {"patch": [(us(-100), None)]}, us(5001))
    assert (event.happened, event.device_id, event.kind) == ("raised", "patch", "technical")
    (over,) = subject.devices_changed("p1", {"patch": [(us(-100), us(5002))]}, us(5002)) or subject.tick(
        us(5003), us(5003)
    )
    assert over.happened == "cleared"


def test_late_data_take_a_silence_back() -> None:
    subject = make("device-silent")

    def beat(at: float, seq: int) -> list[AlertEvent]:
        record = given(seq=seq, device="patch")
        record.message.device_kind = "ecg-patch"
        record.message.status = Status(item=0, state="online", time_us=us(at))
        return subject.take(record, us(at))

    subject.tick(us(0), us(0))
    beat(0, 1)
    (raised,) = subject.tick(us(900), us(900))
    assert raised.onset == when(us(0)) and "15 min" in raised.text
    events = [e for k, at in enumerate(range(100, 1000, 100)) for e in beat(at, 2 + k)]
    assert [(e.happened, e.reason) for e in events] == [("retracted", "corrected")]


# --- rules that cannot fire ------------------------------------------------------------------------------------------


def test_no_shipped_rule_is_dead() -> None:
    assert [text for rule in SHIPPED.values() for text in checks.faults(rule)] == []


@pytest.mark.parametrize(
    ("rule", "changed", "why"),
    [
        ("spo2-low", {"limit": -5, "clear": 0}, "never falls to -5"),
        ("heart-rate-high", {"limit": 400}, "never rises to 400"),
        ("pulse-low", {"limit": 10, "clear": 12}, "never falls to 10"),
        ("weight-gain", {"limit": 600}, "cannot change by 600"),
    ],
)
def test_an_override_that_can_never_fire_is_told(rule: str, changed: dict[str, Any], why: str) -> None:
    found = checks.override_faults({rule: {**changed, **WHO}}, SHIPPED.values(), us(0))
    assert len(found) == 1 and why in found[0], found


@pytest.mark.parametrize(
    ("own", "why"),
    [
        ({"spo2-lo": {"limit": 80, **WHO}}, "unknown rule"),
        ({"spo2-low": {"limit": 80, "from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z", **WHO}}, "not after"),
        ({"spo2-low": {"limit": 80, "to": "2020-01-01T00:00:00Z", **WHO}}, "was over"),
        ({"spo2-low": {"limit": 80}}, "author and a reason"),
        ({"spo2-low": {"limt": 80, **WHO}}, "limt"),
        ({"spo2-critical": {"quiet_hours": "22:00-07:00", **WHO}}, "no quiet hours"),
        ({"spo2-low": {"quiet_hours": "25:00-07:00", **WHO}}, "quiet_hours"),
        ({"spo2-low": {"from": "tomorrow", "limit": 80, **WHO}}, "spo2-low"),
        ({"_facts": {"spo2_scale": 3}}, "outside 1 to 2"),
        ({"_facts": {"shoe_size": 43}}, "unknown fact"),
    ],
)
def test_an_override_that_cannot_be_meant_is_told(own: dict[str, Any], why: str) -> None:
    assert why in " ".join(checks.override_faults(own, SHIPPED.values(), us(0)))


BAD_RULES = {
    "no such metric": 'metric = "spo3"\nbelow = 90.0',
    "no kind of device measures": 'metric = "temperature"\nat_least = 39.0\nfor_s = 600.0',
    "max_gap_s": 'metric = "respiration_rate"\nat_least = 25.0\nfor_s = 600.0\nmax_gap_s = 1.0',
    "no feature": 'event = "event.hiccup"\nquiet_s = 10.0',
    "never 20 or more": 'event = "event.pause"\nat_least = 20.0\nquiet_s = 10.0',
    "kind of device": 'silent = "toaster"',
    "fact": 'metric = "pef"\nbelow = 0.5\nshare_of = "height"',
}


@pytest.mark.parametrize(("why", "condition"), BAD_RULES.items())
def test_a_rule_that_can_never_fire_is_told(why: str, condition: str) -> None:
    text = (
        'id = "x"\nversion = 1\ntitle = "A rule"\npriority = "low"\ntext = "x"\nrationale = "none at all"\n'
        f'source = "nobody"\nsign_off = "nobody at all"\n[[when]]\n{condition}\n'
    )
    found = checks.faults(rules.parse(text, "x.toml"))
    assert found and any(why.removeprefix("no such ") in line for line in found), found


@pytest.mark.parametrize(
    "condition",
    [
        'metric = "spo2"\nbelow = 90.0\nabove = 95.0', 'metric = "spo2"\nbelow = 90.0\nclear = 80.0',
        'metric = "spo2"', 'metric = "spo2"\nbelo = 90.0', 'score = "news2"', 'score = "news3"\nat_least = 5',
        'metric = "weight"\nwithin_s = 60.0', 'metric = "symptom.fatigue"\ncode_at_least = "awful"',
        'metric = "glucose"\nday = "mean"\nat_least = 2.0', 'event = "event.af"',
    ],
)  # fmt: skip
def test_a_rule_file_that_is_none_is_refused_with_its_name(condition: str) -> None:
    text = (
        'id = "x"\nversion = 1\ntitle = "A rule"\npriority = "low"\ntext = "x"\nrationale = "none at all"\n'
        f'source = "nobody"\nsign_off = "nobody at all"\n[[when]]\n{condition}\n'
    )
    with pytest.raises(rules.RuleError, match=r"x\.toml"):
        rules.parse(text, "x.toml")


def test_checking_files_says_what_is_missing(tmp_path: Path) -> None:
    assert rule_check.check_shipped().faults == []
    text = (Path(rules.__file__).parent / "rules" / "spo2-low.toml").read_text()
    (tmp_path / "own.toml").write_text(text.replace('id = "spo2-low"', 'id = "own"'))
    (tmp_path / "broken.toml").write_text("id = 3")
    found = rule_check.check_files([tmp_path]).faults
    assert any("own has no vectors" in line for line in found) and any("broken.toml" in line for line in found)


def test_explaining_a_patients_rules() -> None:
    own = {"spo2-low": {"limit": 86, **WHO}, "news2-red": {"enabled": False, **WHO}, "nonsense": {"limit": 1}}
    document = rule_check.explain(rules.load(), own, [], (), us(0))
    by_rule = {row["rule"]: row for row in document["rules"]}
    assert by_rule["spo2-low"]["state"] == "own" and by_rule["spo2-low"]["conditions"] == ["spo2 below 86 % for 30 s"]
    assert by_rule["spo2-low"]["because"] == [
        "in force: limit 86, from ever to further notice, by dr-x: COPD",
    ]  # fmt: skip
    assert by_rule["news2-red"]["state"] == "off" and by_rule["peak-flow-low"]["state"] == "no data"
    dead = rule_check.explain(rules.load(), {"pulse-low": {"limit": 3, **WHO}}, [], (), us(0), "pulse-low")["rules"]
    assert "it can never fire: pulse_rate never falls to 3" in dead[0]["because"][1]
    assert by_rule["asystole"]["state"] == "shipped" and document["trouble"] == ["override of unknown rule nonsense"]


def test_simulation_does_what_the_rule_would_have_done() -> None:
    samples = [Sample("p1", us(60 * k), "spo2", 80.0 if 100 <= k < 110 else 97.0) for k in range(2000)]
    samples += [Sample("p2", us(60 * k), "spo2", 97.0) for k in range(2000)]
    samples.sort(key=lambda sample: sample.time_us)
    done = simulate(SHIPPED["spo2-critical"], samples)
    assert (done.patients, len(done.alerts), done.samples) == (2, 1, 4000)
    assert done.alerts[0].onset == when(us(6000)) and done.alerts[0].state == "closed"
    assert done.per_patient_day == pytest.approx(1 / (2 * 1999 / 1440))
    own = {"p1": ({"spo2-critical": {"limit": 75, "clear": 80}}, ())}
    assert simulate(SHIPPED["spo2-critical"], samples, own).alerts == []
    groups = {"fragile": {"spo2-critical": {"limit": 75, "clear": 80}}}
    assert simulate(SHIPPED["spo2-critical"], samples, {"p1": ({"_cohorts": ["fragile"]}, ())}, groups).alerts == []


def test_profiles_name_what_they_cannot_use() -> None:
    read = profile.read({"spo2-low": [{"limit": 86}, {"limit": "much"}], "_facts": {"pef_best": [{"val": 3}]}})
    assert len(read.overrides["spo2-low"]) == 1 and len(read.trouble) == 2


def test_silence_is_a_multiple_of_the_kinds_cadence() -> None:
    rule: Rule = SHIPPED["device-silent"]
    silences = {c.silent: rule_check.words(c) for c in rule.when if isinstance(c, Silent)}
    assert silences["scale"] == "scale silent for 2880 min" and silences["ecg-patch"] == "ecg-patch silent for 15 min"


def test_the_last_sign_of_life_outlives_a_restart_without_writing_the_patients_memory() -> None:
    subject = make("device-silent")
    subject.tick(us(0), us(0))
    for seq in range(50):
        record = given(seq=seq, device="patch")
        record.message.device_kind = "ecg-patch"
        record.message.status = Status(item=0, state="online", time_us=us(seq))
        subject.take(record, us(seq))
        if seq == 0:
            ((name, packed),) = subject.dirty()
    assert list(subject.dirty()) == []
    heard = subject.pack_heard()
    assert heard is not None and subject.pack_heard() is None
    fresh = make("device-silent")
    fresh.load_heard(heard)
    assert fresh.now == us(0)  # the newest tick is known before the next one comes
    fresh.load(name, packed)
    assert fresh.tick(us(948), us(948)) == []
    (event,) = fresh.tick(us(949), us(949))
    assert event.onset == when(us(49))


def test_the_newest_tick_is_kept_while_nobody_is_heard() -> None:
    subject = make("device-silent")
    subject.tick(us(0), us(0))
    kept = subject.pack_heard()
    assert kept is not None
    subject.tick(us(9), us(9))
    assert subject.pack_heard() is None
    subject.tick(us(10), us(10))
    newer = subject.pack_heard()
    assert newer is not None
    fresh = make("device-silent")
    fresh.load_heard(newer)
    fresh.load_heard(kept)
    assert fresh.now == us(10)


def test_what_is_provisional_raises_only_what_is_urgent() -> None:
    subject = engine()
    early = feature("event.vt", 10, 12, 150.0) | {"provisional": True}
    assert take_feature(subject, early) == []
    assert take_feature(subject, early | {"withdrawn": True, "revision": 2}) == []
    [told] = take_feature(subject, feature("event.vt", 10, 12, 150.0, revision=3))
    assert (told.rule, told.notify) == ("ventricular-tachycardia", True)
    urgent = feature("event.vf", 60, 66, 200.0, patient="p2") | {"provisional": True}
    assert [event.rule for event in take_feature(subject, urgent)] == ["ventricular-fibrillation"]


def _sign(subject: Engine, at: float, seq: int) -> list[AlertEvent]:
    record = given(seq=seq, device="patch")
    record.message.device_kind = "ecg-patch"
    record.message.status = Status(item=0, state="online", time_us=us(at))
    return subject.take(record, us(at))


def test_a_device_that_was_never_heard_is_missed_from_its_assignment_on() -> None:
    subject = make("device-silent")
    subject.tick(us(0), us(0))
    subject.devices_changed("p1", {"patch": [(us(0), None)]}, us(0))
    subject.expect("p1", {"patch": "ecg-patch", "cuff": "bp-cuff"})
    assert subject.tick(us(899), us(899)) == []
    (raised,) = subject.tick(us(900), us(900))
    assert (raised.happened, raised.onset, raised.device_id) == ("raised", when(us(0)), "patch")
    # A restart keeps it, and tells nothing twice.
    memory, again = dict(subject.dirty()), make("device-silent")
    again.devices_changed("p1", {"patch": [(us(0), None)]}, 0)
    again.load("p1", memory["p1"])
    again.expect("p1", {"patch": "ecg-patch"})
    assert again.recheck(us(900)) == [] and again.tick(us(1000), us(1000)) == []
    (over,) = _sign(again, 1200, 1)
    assert (over.happened, over.cleared_at) == ("cleared", when(us(1200)))
    assert _sign(again, 1300, 2) == [] and again.tick(us(1500), us(1500)) == []
    assert again.tick(us(2199), us(2199)) == []
    (later,) = again.tick(us(2200), us(2200))
    assert later.onset == when(us(1300)), "from then on it is missed like any other"


def test_what_was_there_after_all_takes_the_first_silence_back_and_so_does_its_leaving() -> None:
    for ending in ("data", "assignment"):
        subject = make("device-silent")
        subject.tick(us(0), us(0))
        subject.devices_changed("p1", {"patch": [(us(0), None)]}, us(0))
        subject.expect("p1", {"patch": "ecg-patch"})
        (raised,) = subject.tick(us(900), us(900))
        if ending == "data":
            events = _sign(subject, 600, 1)
        else:
            events = subject.devices_changed("p1", {"patch": [(us(0), us(100))]}, us(950))
        assert [(e.alert_id, e.happened) for e in events] == [(raised.alert_id, "retracted")]


def test_a_device_registered_with_a_past_is_given_its_time() -> None:
    subject = make("device-silent")
    subject.tick(us(0), us(0))
    subject.devices_changed("p1", {"patch": [(us(-86400), None)]}, us(0))
    subject.expect("p1", {"patch": "ecg-patch"})
    assert subject.tick(us(899), us(899)) == []
    assert _sign(subject, -80000, 1) == [], "a catching-up device is not silent, nor was it"
    assert subject.tick(us(1700), us(1700)) == []
    assert [e.onset for e in subject.tick(us(1799), us(1799))] == [when(us(-80000))]


def test_oxygen_is_told_by_its_flow_or_concentration_too() -> None:
    for metric, on_air, on_oxygen in (("oxygen_flow", 0.0, 0.5), ("oxygen_concentration", 21.0, 28.0)):
        subject = make("news2-medium")
        chart = {"respiration_rate": 22.0, "spo2": 95.0, metric: on_air}  # 2 + 1 points
        for n, (name, value) in enumerate(chart.items()):
            assert subject.take(given(reading(name, n, value), seq=n), us(n)) == []
        (told,) = subject.take(given(reading(metric, 60, on_oxygen), seq=9), us(60))
        assert (told.rule, told.value) == ("news2-medium", 5.0)
        # What somebody has said counts before what is worked out.
        said = subject.take(given(reading("oxygen", 120, None, value_code="air"), seq=10), us(120))
        assert [event.happened for event in said] == ["cleared"]
