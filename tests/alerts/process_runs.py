"""Randomised runs on the real processes: ``python -m tests.alerts.process_runs --runs 50 --write docs/alerting.md``.

Each run draws a story from its seed (``process_story``) and sends it to two alerting workers on a real Kafka that are
killed with -9, started again, and joined and left by others, so that partitions move while records are under way. After
each step what the workers have told is compared with the reference model that sees everything in order; in the end all
is sent once more in another order, and nothing may come of it. Every event must be there once, to the letter.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.alerts.process_story import NAMES, ROSTER, Sent, Standing, Story, judged, write_rules
from tests.alerts.worker_process import WorkerProcess, read_all
from vitalgate.config import topics
from vitalgate.config.loading import load
from vitalgate.config.settings import Settings
from vitalgate.devices import times
from vitalgate.local.stack import Stack
from vitalgate.local.topics import create_topics
from vitalgate.stream.alerting import Alerting
from vitalgate.stream.alerting_setting import SettingError, set_roster
from vitalgate.stream.groups import group

TOPICS = tuple(
    dict.fromkeys(
        (*Alerting.topics, topics.ALERTS, topics.ALERT_STATE, topics.ALERT_MEMORY, topics.ALERT_REPLIES,
         topics.AUDIT_INBOX, topics.REGISTRY_DEVICES, topics.REGISTRY_ASSIGNMENTS, topics.REGISTRY_PATIENTS,
         topics.REGISTRY_ROSTERS, topics.REGISTRY_COHORTS)
    )
)  # fmt: skip
FED = (topics.INPUTS, topics.TICKS, topics.ALERT_COMMANDS)
PARTITIONS, PATIENTS, STEPS = 3, 5, 5
_PATIENCE_S = 120.0
_BEGIN, _END = "<!-- process runs: begin -->", "<!-- process runs: end -->"


@dataclass
class Outcome:
    """What came of one run."""

    seed: int
    counts: dict[str, int] = field(default_factory=dict)
    kills: int = 0
    rebalances: int = 0
    """Workers that joined, or left for good."""
    alerts: int = 0
    """Causes in the end, each with its one alert."""
    events: int = 0
    copies: int = 0
    """Records of events that were there more than once, to the letter."""
    seconds: float = 0.0
    fault: str = ""


class Workers:
    """The processes of one run, in slots of one consumer group."""

    def __init__(self, settings: Settings, folder: Path, chance: random.Random, outcome: Outcome) -> None:
        self.settings, self.folder, self.chance, self.outcome = settings, folder, chance, outcome
        self.alive: dict[int, WorkerProcess] = {}
        self.slots = 0
        self.join()

    def join(self) -> None:
        """A worker that the group has not seen before: partitions move."""
        self.alive[self.slots] = WorkerProcess(self.settings, "alerting", self.folder, str(self.slots))
        self.slots += 1
        self.outcome.rebalances += self.slots > 1

    def disturb(self) -> None:
        """Kill one, and start it again or another, or none if another is there; or let one join or leave."""
        what = self.chance.random()
        if what < 0.15 and len(self.alive) < 2:
            return self.join()
        slot = self.chance.choice(list(self.alive))
        worker = self.alive[slot]
        if what < 0.3 and len(self.alive) > 1:
            worker.stop()
            worker.log.close()
            del self.alive[slot]
            self.outcome.rebalances += 1
            return None
        worker.kill()
        self.outcome.kills += 1
        if what < 0.5:
            worker.log.close()
            del self.alive[slot]
            return self.join()
        time.sleep(self.chance.uniform(0, 0.3))
        worker.start()
        return None

    def end(self) -> None:
        """Kill all."""
        for worker in self.alive.values():
            worker.kill()
            worker.log.close()


def run(bootstrap: str, folder: Path, seed: int) -> Outcome:
    """One run; a fault is told in the outcome."""
    outcome = Outcome(seed)
    began = time.monotonic()
    chance = random.Random(seed)
    (folder / "rules").mkdir(parents=True)
    write_rules(folder / "rules")
    flags = {
        "kafka.bootstrap": bootstrap, "kafka.prefix": f"runs-{seed}-{random.randrange(1 << 30)}.",
        "kafka.partitions": str(PARTITIONS), "alerting.rules": str(folder / "rules"), "worker.session_timeout_s": "6",
    }  # fmt: skip
    settings = load(flags=flags, env={}, data=str(folder / "data")).settings
    create_topics(settings.kafka, TOPICS)
    _write_roster(settings)
    story = Story(chance, judged(folder / "rules"), [f"p{seed}-{n}" for n in range(PATIENTS)])
    post = Post(settings)
    workers = Workers(settings, folder, chance, outcome)
    try:
        post.send(story.begin())
        post.settle()
        workers.join()
        for number in range(STEPS):
            _deliver(post, workers, chance, story.step(readings=not number), story)
            post.settle()
            _compare(settings, story.standing(), f"after step {number + 1}")
        _deliver(post, workers, chance, story.everything_again(), story)
        post.settle()
        told = _compare(settings, story.standing(), "after everything came again")
        outcome.alerts, (outcome.events, outcome.copies) = story.causes(), _check_story(settings, told)
    except Exception as error:
        outcome.fault = f"{error}" if isinstance(error, AssertionError) else traceback.format_exc(limit=3)
        logs = [line for log in sorted(folder.glob("*.log")) for line in log.read_text().splitlines()[-3:]]
        outcome.fault += "\n" + "\n".join(logs)
    finally:
        workers.end()
        post.close()
    outcome.counts = story.counts
    outcome.seconds = time.monotonic() - began
    return outcome


def _write_roster(settings: Settings) -> None:
    """On a machine with much else to do Kafka may take longer than a person at a terminal would wait."""
    for left in reversed(range(10)):
        try:
            set_roster(settings.kafka, ROSTER)
            return
        except SettingError:
            if not left:
                raise


def _patient(ask: Callable[[], Any]) -> Any:
    """Ask again while a leader or coordinator is about to be chosen."""
    for _ in range(10):
        with contextlib.suppress(KafkaException):
            return ask()
        time.sleep(1)
    return ask()


class Post:
    """Sends records, and tells when the workers have dealt with them for good."""

    def __init__(self, settings: Settings) -> None:
        self.kafka = settings.kafka
        self.producer = Producer(
            {"bootstrap.servers": self.kafka.bootstrap, "partitioner": "murmur2_random", "linger.ms": 2}
        )
        self.group = Consumer(
            {
                "bootstrap.servers": self.kafka.bootstrap, "group.id": group(settings, "alerting"),
                "enable.auto.commit": False,
            }
        )  # fmt: skip
        self.places = [
            TopicPartition(topics.full(topic, self.kafka), n) for topic in FED for n in range(PARTITIONS)
        ]  # fmt: skip

    def send(self, records: Sequence[Sent]) -> None:
        """To the partition of their key, or to each."""
        for topic, key, value in records:
            name = topics.full(topic, self.kafka)
            if key is None:
                for n in range(PARTITIONS):
                    self.producer.produce(name, value, partition=n)
            else:
                self.producer.produce(name, value, key)
        assert self.producer.flush(30) == 0

    def settle(self) -> None:
        """Wait until the group has acknowledged all that is there."""
        ends = _patient(
            lambda: [self.group.get_watermark_offsets(place, timeout=10, cached=False)[1] for place in self.places]
        )
        give_up = time.monotonic() + _PATIENCE_S
        while True:
            done = [place.offset for place in _patient(lambda: self.group.committed(self.places, timeout=10))]
            left = sum(max(0, end - max(0, at)) for end, at in zip(ends, done, strict=True))
            if not left:
                return
            assert time.monotonic() < give_up, f"{left} records were not dealt with within {_PATIENCE_S:g} s"
            time.sleep(0.1)

    def close(self) -> None:
        """Leave."""
        self.group.close()


def _deliver(post: Post, workers: Workers, chance: random.Random, records: Sequence[Sent], story: Story) -> None:
    """Send in a few pieces, with what goes wrong between; then the time again, which comes each second in life.

    A worker that has just started does not know the time before the next tick, and takes the machine's for people's
    silences, which the story's time is not: they are dealt with before anything goes wrong.
    """
    if any(b'"action":"silence"' in value for _, _, value in records if len(records) < len(story.sent)):
        post.send(story.time())
        post.settle()
        post.send(records)
        post.settle()
        records = []
    cuts = sorted(chance.sample(range(len(records) + 1), min(len(records), chance.randint(0, 2))))
    for low, high in zip([0, *cuts], [*cuts, len(records)], strict=True):
        post.send(records[low:high])
        if chance.random() < 0.6:
            time.sleep(chance.uniform(0, 1.0))
            workers.disturb()
    # What escalates when depends on whether it was there before time went on; Kafka orders no two topics.
    post.settle()
    post.send(story.time())


def _told(settings: Settings) -> tuple[list[dict[str, Any]], int]:
    """The events, each once, and how many copies there were. Raises AssertionError when copies differ."""
    found: dict[str, bytes] = {}
    copies = 0
    for message in read_all(settings.kafka, topics.ALERTS):
        value = message.value() or b""
        assert isinstance(value, bytes)
        name = orjson.loads(value)["event_id"]
        copies += name in found
        assert found.setdefault(name, value) == value, f"event {name} was told twice, in two ways"
    return [orjson.loads(value) for value in found.values()], copies


def _known(events: Sequence[dict[str, Any]]) -> dict[str, Standing]:
    """How the alerts of each patient stand by what was told, as the reference model says it."""
    last: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["rule"] in NAMES and event["number"] >= last.get(event["alert_id"], event)["number"]:
            last[event["alert_id"]] = event
    found: dict[str, Standing] = {}
    for one in last.values():
        if one["state"] != "retracted":
            end = _us(one["cleared_at"])
            found.setdefault(one["patient"], []).append(
                (one["rule"], _us(one["onset"]), end, one["closed"], one["acknowledged_by"], one["escalation_level"],
                 _us(one["silenced_until"]) or 0, one["suppressed_by"] if end is None else "")
            )  # fmt: skip
    return {name: sorted(standing, key=repr) for name, standing in found.items()}


def _us(text: str | None) -> int | None:
    return None if text is None else times.parse(text).us


def _compare(settings: Settings, wanted: dict[str, Standing], when: str) -> list[dict[str, Any]]:
    events, _ = _told(settings)
    known = _known(events)
    for patient, ought in wanted.items():
        found = known.get(patient, [])
        assert found == sorted(ought, key=repr), f"{when}, {patient}: told {found}, ought to be {ought}"
    return events


def _check_story(settings: Settings, events: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Each step of each alert once, in order; the current state on its own topic; one open alert a patient and rule."""
    steps: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        steps.setdefault(event["alert_id"], []).append(event)
    for name, story in steps.items():
        numbers = sorted(event["number"] for event in story)
        assert numbers == list(range(1, len(numbers) + 1)), f"steps of alert {name}: {numbers}"
    current: dict[bytes, bytes | None] = {}
    for message in read_all(settings.kafka, topics.ALERT_STATE):
        key, value = message.key(), message.value()
        assert isinstance(key, bytes) and not isinstance(value, str)
        current[key] = value
    state = [orjson.loads(value) for value in current.values() if value is not None]
    last = [max(story, key=lambda event: int(event["number"])) for story in steps.values()]
    wanted = sorted(event["event_id"] for event in last if not event["closed"])
    assert sorted(event["event_id"] for event in state) == wanted, "the state topic is not what was told last"
    standing = [(e["patient"], e["rule"]) for e in state if e["cleared_at"] is None]
    assert len(set(standing)) == len(standing), f"two open alerts of one patient and rule: {sorted(standing)}"
    return len(events), _told(settings)[1]


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """For docs/alerting.md."""

    def total(name: str) -> int:
        return sum(one.counts.get(name, 0) for one in outcomes)

    good = sum(not one.fault for one in outcomes)
    seeds = f"{min(one.seed for one in outcomes)} to {max(one.seed for one in outcomes)}"
    rows = [
        ("runs, seeds", f"{len(outcomes)}, {seeds}"), ("exactly one alert for each cause, in", f"{good} of them"),
        ("records sent", f"{total('records'):,}"), ("of them corrections and retractions", f"{total('corrections'):,}"),
        ("repeats, in other orders", f"{total('repeats'):,}"), ("commands of people", f"{total('commands'):,}"),
        ("ticks", f"{total('ticks'):,}"), ("workers killed with -9", f"{sum(one.kills for one in outcomes):,}"),
        ("workers that joined or left", f"{sum(one.rebalances for one in outcomes):,}"),
        ("causes in the end, by the reference", f"{sum(one.alerts for one in outcomes):,}"),
        ("events told, each once", f"{sum(one.events for one in outcomes):,}"),
        ("copies of events, to the letter", f"{sum(one.copies for one in outcomes):,}"),
    ]  # fmt: skip
    return ["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)]


def write(file: Path, outcomes: Sequence[Outcome]) -> None:
    """Put the table between its two marks."""
    text = file.read_text(encoding="utf-8")
    inside = "\n\n" + "\n".join(table(outcomes)) + "\n\n"
    made, count = re.subn(f"(?s)({re.escape(_BEGIN)}).*?({re.escape(_END)})", rf"\g<1>{inside}\g<2>", text)
    if count != 1:
        raise SystemExit(f"{file} has no place for the table: one line {_BEGIN} and one {_END} are needed")
    file.write_text(made, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them all; 1 when one is at fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; each next one is one higher")
    parser.add_argument("--together", type=int, default=2, help="runs side by side")
    parser.add_argument("--write", type=Path, help="put the table into this document, between its marks")
    parser.add_argument("--json", type=Path, help="add the outcomes to this file of JSON lines, and take those in it")
    asked = parser.parse_args(arguments)
    before = _read(asked.json)
    seeds = [seed for seed in range(asked.seed, asked.seed + asked.runs) if seed not in {one.seed for one in before}]
    outcomes = list(before)
    with tempfile.TemporaryDirectory(prefix="vitalgate-runs-") as name:
        folder = Path(name)
        stack = Stack(folder / "kafka", only={"kafka"})
        if seeds:
            stack.start()
        try:
            bootstrap = stack.settings.settings.kafka.bootstrap if seeds else ""
            with ThreadPoolExecutor(asked.together) as pool:
                waiting = [pool.submit(run, bootstrap, folder / str(seed), seed) for seed in seeds]
                for done in as_completed(waiting):
                    outcomes.append(one := done.result())
                    print(
                        f"run {one.seed}: {one.fault or 'good'}; {one.alerts} alerts, {one.kills} kills, "
                        f"{one.rebalances} joined or left, {one.seconds:.0f} s", flush=True
                    )  # fmt: skip
                    if asked.json:
                        with asked.json.open("ab") as file:
                            file.write(orjson.dumps(one) + b"\n")
        finally:
            if seeds:
                stack.stop(remove=True)
    outcomes.sort(key=lambda one: one.seed)
    print("\n".join(table(outcomes)))
    if asked.write:
        write(asked.write, outcomes)
    return int(any(one.fault for one in outcomes))


def _read(file: Path | None) -> list[Outcome]:
    if file is None or not file.is_file():
        return []
    return [Outcome(**orjson.loads(line)) for line in file.read_bytes().splitlines()]


if __name__ == "__main__":
    sys.exit(main())
