"""A random story for the real alerting worker, and what the reference model says of each step of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.alerts.care_reference import World
from tests.alerts.feeding import Corrects, given, reading, us
from vitalgate.alerts import rules
from vitalgate.alerts.events import alert_id
from vitalgate.alerts.roster import Roster
from vitalgate.alerts.rule import Rule
from vitalgate.config import topics
from vitalgate.config.topics import Topic
from vitalgate.devices import times
from vitalgate.devices.records import PatientInput, encode

#: (topic, key or None for every partition, value)
Sent = tuple[Topic, str | None, bytes]
Standing = list[tuple[object, ...]]

ROSTER: dict[str, Any] = {
    "team": "care", "members": ["anna", "ben"], "always_on_call": ["duty"],
    "escalation": {
        "high": [{"after_s": 60, "to": "team"}, {"after_s": 150, "to": "on-call"}],
        "medium": [{"after_s": 200, "to": "team"}],
    },
}  # fmt: skip
#: What makes shipped rules harder: one that waits for an answer, one that continues what comes again.
CHANGED = {"glucose-very-low": "latched = true\n", "glucose-low": "settle_s = 100.0\n"}
NAMES = ("spo2-critical", "spo2-low", "glucose-very-low", "glucose-low")
VALUES = {"spo2": [80.0, 83.0, 86.0, 89.0, 91.0, 92.0, 97.0], "glucose": [50.0, 60.0, 69.0, 79.0, 90.0]}
STEP = {"spo2": 15.0, "glucose": 60.0}


def write_rules(folder: Path) -> None:
    """The changed rules, as files for the setting alerting.rules."""
    shipped = Path(rules.__file__).parent / "rules"
    for name, line in CHANGED.items():
        (folder / f"{name}.toml").write_text(line + (shipped / f"{name}.toml").read_text())


def judged(folder: Path) -> list[Rule]:
    """The rules that the story is about, with the changed ones of the folder."""
    book = rules.load(str(folder)).rules
    return [book[name] for name in NAMES]


@dataclass
class Story:
    """Steps drawn from a seed; each gives records to send, and moves the reference models along."""

    chance: random.Random
    rules: list[Rule]
    patients: list[str]
    worlds: dict[str, World] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    """All so far, once each."""
    clock: float = 0.0
    seq: int = 0
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("records", "repeats", "corrections", "commands", "ticks"), 0)
    )

    def __post_init__(self) -> None:
        roster = Roster.model_validate(ROSTER)
        self.worlds = {name: World(list(self.rules), roster) for name in self.patients}
        self.span = self.chance.choice([6, 12, 24])

    def step(self, readings: bool = False) -> list[Sent]:
        """Readings in any order, time, or what people do: one kind at a time, for that is what the model sees."""
        kind = 0.0 if readings else self.chance.random()
        made = self._readings() if kind < 0.55 else self._tick() if kind < 0.8 else self._commands()
        self.sent += made
        # A repeat may come at once, or later, and says nothing.
        again = self.chance.sample(made, self.chance.randint(0, len(made) // 2)) if kind < 0.55 else []
        self.counts["repeats"] += len(again)
        return made + again

    def begin(self) -> list[Sent]:
        """The first tick: from then on everybody knows the time."""
        self.sent += (made := self._tick())
        return made

    def time(self) -> list[Sent]:
        """The newest tick once more."""
        return [next(one for one in reversed(self.sent) if one[0] == topics.TICKS)]

    def everything_again(self) -> list[Sent]:
        """All that was ever sent, in another order: nothing may come of it."""
        again = list(self.sent)
        self.chance.shuffle(again)
        self.counts["repeats"] += len(again)
        return again

    def standing(self) -> dict[str, Standing]:
        """What ought to be known of each patient."""
        return {name: world.standing() for name, world in self.worlds.items()}

    def causes(self) -> int:
        """Alerts that stand in the end, one for each cause."""
        return sum(map(len, self.standing().values()))

    # --- the kinds of step --------------------------------------------------------------------------------------------

    def _readings(self) -> list[Sent]:
        made: list[Sent] = []
        for _ in range(self.chance.randint(5, 30)):
            name = self.chance.choice(self.patients)
            record = self._message(name)
            self.worlds[name].take(record)
            made.append((topics.INPUTS, name, encode(record)))
        self.counts["records"] += len(made)
        return made

    def _message(self, patient: str) -> PatientInput:
        chance = self.chance
        metric = chance.choice(["spo2", "spo2", "glucose"])
        fields: dict[str, Any] = {}
        kind = chance.randint(0, 9)
        if kind <= 1:
            self.counts["corrections"] += 1
            other = chance.randrange(self.seq + 2)
            fields["corrects"] = Corrects(epoch="e1", seq=other, index=0, retract=kind == 1)
        self.seq += 1
        made = reading(metric, chance.randint(0, self.span) * STEP[metric], chance.choice(VALUES[metric]), 0, **fields)
        return given(made, seq=self.seq, patient=patient, device=f"d-{patient}")

    def _tick(self) -> list[Sent]:
        self.clock += self.chance.choice([5, 40, 90, 300])
        for world in self.worlds.values():
            world.tick(us(self.clock))
        self.counts["ticks"] += 1
        return [(topics.TICKS, None, orjson.dumps({"time": times.text(us(self.clock)), "time_us": us(self.clock)}))]

    def _commands(self) -> list[Sent]:
        made: list[Sent] = []
        for _ in range(self.chance.randint(1, 4)):
            name = self.chance.choice(self.patients)
            world = self.worlds[name]
            alerts = [(rule, onset) for rule, found in world.alerts.items() for onset in found] or [("spo2-low", 0)]
            rule, onset = self.chance.choice(alerts)
            action = self.chance.choice(["acknowledge", "silence", "unsilence"])
            until = us(self.clock + self.chance.choice([-10, 50, 200]))
            number = self.counts["commands"]
            world.command(str(number), action, rule, onset, "anna", until, us(self.clock))
            document = {
                "command_id": f"command-{number}", "alert_id": alert_id(name, rule, onset), "patient": name,
                "who": "anna", "action": action, "at": times.text(us(self.clock)),
            }  # fmt: skip
            if action == "silence":
                document |= {"until": times.text(until), "reason": "r"}
            made.append((topics.ALERT_COMMANDS, name, orjson.dumps(document)))
            self.counts["commands"] += 1
        return made
