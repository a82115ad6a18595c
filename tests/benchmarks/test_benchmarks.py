"""That the benchmark's parts say what is so; nothing here is timed."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ecg, load, report, signal_speed
from benchmarks.bare_subscriber import BareProcess
from benchmarks.committed import CommitWatch, percentiles
from benchmarks.generator import Connection, send
from benchmarks.processes import per_thousand
from vitalgate.config.loading import read_secret
from vitalgate.config.settings import IntakeSettings, MqttSettings
from vitalgate.devices import catalogue
from vitalgate.devices.context import Context
from vitalgate.devices.decode import decode
from vitalgate.devices.validate import validate
from vitalgate.scoring import detectors

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)


def test_the_mix_is_what_is_said_and_every_message_is_valid() -> None:
    patches, oximeters = load.cast("t", 5, 20)
    messages = load.mixed(patches, oximeters, 2000, "t1", NOW)
    assert len(messages) == 2000
    assert sum(message.packets for message in messages) == 400
    corrections = [message for message in messages if message.readings == 1]
    assert 5 <= len(corrections) <= 40
    sequences = Counter(message.device for message in messages)
    for device, count in sequences.items():
        assert sorted(m.seq for m in messages if m.device == device) == list(range(1, count + 1))
    kinds = {wearer.device: wearer.kind for wearer in (*patches, *oximeters)}
    known = catalogue.load()
    context = Context.of(IntakeSettings(), int(NOW.timestamp() * 1e6) + 120_000_000)
    for message in messages[::7]:
        leaf = message.topic.rpartition("/")[2]
        found = validate(decode(message.payload), leaf, known.kind(kinds[message.device]), context)
        assert not found.dead
        assert len(found.readings) == message.readings
        assert len(found.waveforms) == message.packets


def test_recordings_go_on_without_gaps_and_are_of_different_ages() -> None:
    wearers, _ = load.cast("e", 4, 0)
    messages = list(load.recordings(wearers, 3, "e1", NOW))
    assert [message.device for message in messages[:4]] == [wearer.device for wearer in wearers]
    firsts = {}
    for message in messages:
        [block] = decode(message.payload)["waveforms"]
        assert block["first_sample"] == firsts.get(message.device, block["first_sample"])
        assert message.seq == block["first_sample"] // load.RATE + 1
        firsts[message.device] = block["first_sample"] + load.RATE
    assert len(set(firsts.values())) == 4


def test_a_block_is_completed_by_the_packet_with_its_last_sample_ahead() -> None:
    assert ecg._completing(0) == 18
    sent = {("a", seq): 0.0 for seq in range(25, 60)}  # from second 24 on: block 1 was over before it
    assert ecg._expected(sent) == len({2, 3, 4})
    assert ecg._beat_lags({("a", 18): 5.0}, {("a", 0): 5.5, ("a", 1): 9.0, ("b", 0): 9.0}) == [0.5]


def test_times_are_taken_from_the_line_that_holds_the_message() -> None:
    watch = CommitWatch.__new__(CommitWatch)
    watch.lines = {1: (10.0, 0, 0, 9, 10), 2: (11.0, 0, 10, 39, 30), 3: (12.0, 0, 40, 79, 40), 4: (13.0, 1, 0, 19, 20)}
    assert watch.last() == 13.0
    assert watch.middle_rate() == pytest.approx(40.0)
    assert percentiles(np.array([])) == {"p50_ms": None, "p99_ms": None, "count": 0}
    assert percentiles(np.array([0.1, 0.1])) == {"p50_ms": 100.0, "p99_ms": 100.0, "count": 2}
    assert per_thousand({"a": 1.0}, {"a": 1.5, "b": 2.0}, 1000) == {"b": 2000.0, "a": 500.0}


def test_figures_replace_those_before_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    order = ["ECG", "Start"]
    report.write(page, report.machine(), {"Start": ["1 s"]}, order)
    report.write(page, report.machine(), {"ECG": ["kept"]}, order)
    report.write(page, report.machine(), {"Start": ["2 s"]}, order)
    written = page.read_text()
    assert written.index("### ECG") < written.index("kept") < written.index("### Start")
    assert "old" not in written
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert written.count("### Start") == 1
    assert "2 s" in written and "1 s" not in written
    page.write_text("no place")
    with pytest.raises(ValueError, match="no place for figures"):
        report.write(page, report.machine(), {}, order)


def test_the_generator_and_the_bare_subscriber_count_the_same(mqtt_broker: MqttSettings) -> None:
    host, port, user = mqtt_broker.host, mqtt_broker.port, mqtt_broker.username
    password = read_secret(mqtt_broker.password_file, "gateway's password")
    # The gateway's user may write and read the alert topics.
    messages = [(f"v1/alerts/bench/p{n % 7}/a", b"%d" % n) for n in range(1000)]
    with BareProcess(host, port, user, password, "v1/alerts/bench/#", len(messages)) as bare:
        connections = [Connection(host, port, f"{user}-generator-{n}", user, password) for n in range(2)]
        sent = send(connections, iter(messages), len(messages), None)
        assert (sent.messages, sent.acknowledged) == (1000, 1000)
        assert bare.result()["count"] == 1000
        for connection in connections:
            connection.close()


def test_a_section_runs_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal_speed, "_DETECTORS", (detectors.OURS,))
    found = signal_speed.run(6.0, 0.01, lambda _: None)
    assert found["detectors"]["vitalgate"]["times_real_time"] > 0
    assert found["whole_analysis_times_real_time"] > 0
    assert found["live"]["patients"] == 20 and found["live"]["p99_s"] > 0
    assert any("vitalgate" in line for line in signal_speed.text(found))
