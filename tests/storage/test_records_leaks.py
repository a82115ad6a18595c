"""Random people, teams and changes against a reference model: nobody ever sees what the model does not allow."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.storage.conftest import empty
from tests.storage.records_cast import KEYS, given, patient, user
from vitalgate.config.settings import DatabaseSettings
from vitalgate.records.catalogue import RECORDS
from vitalgate.records.errors import Conflict, NotAllowed, NotFound
from vitalgate.records.permissions import Condition, Relation, Role, condition_of
from vitalgate.storage import records_changes
from vitalgate.storage.records_database import Actor, RecordsDatabase
from vitalgate.storage.records_read import Query, find
from vitalgate.storage.records_write import create, transition

PATIENTS = ("p-0", "p-1", "p-2")
DOCTORS = ("dr-0", "dr-1", "dr-2")
TEAMS = ("red", "blue")
KINDS = ("message", "lab_result", "treatment_plan")


@dataclass
class Model:
    """What there is, in plain words; nothing of it is read from the database."""

    direct: dict[tuple[str, str], bool] = field(default_factory=dict)
    """(doctor, patient): True while on the care team, False when once."""
    member: dict[tuple[str, str], bool] = field(default_factory=dict)
    """(doctor, team) likewise."""
    team: dict[str, str] = field(default_factory=dict)
    """Of each patient, now."""
    met: set[tuple[str, str]] = field(default_factory=set)
    """(doctor, patient) who were together in a team at some time."""
    glass: set[tuple[str, str]] = field(default_factory=set)
    disabled: set[str] = field(default_factory=set)
    """User ids."""
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By id: kind, patient, published, and of messages who from and to."""

    def meet(self) -> None:
        """Note who is together in a team."""
        self.met |= {
            (doctor, who)
            for (doctor, team), now in self.member.items()
            for who, theirs in self.team.items()
            if now and team == theirs
        }

    def relation(self, doctor: str, who: str) -> Relation:
        """Of a clinician to a patient."""
        together = any(now and self.team[who] == team for (one, team), now in self.member.items() if one == doctor)
        if self.direct.get((doctor, who)) or together:
            return Relation.ASSIGNED
        if (doctor, who) in self.glass:
            return Relation.BREAK_GLASS
        return Relation.FORMERLY if (doctor, who) in self.direct or (doctor, who) in self.met else Relation.STRANGER


class Leaks(RuleBasedStateMachine):
    """Rules change the database and the model alike; after each, everybody's view is what the model says."""

    database: DatabaseSettings

    def __init__(self) -> None:
        super().__init__()
        empty(self.database)
        self.db = RecordsDatabase(self.database, KEYS, most=2, application="test")
        self.db.open()
        self.model = Model()
        self.actors: dict[str, Actor] = {}
        self.serial = itertools.count()

    def teardown(self) -> None:
        self.db.close()

    @initialize()
    def people(self) -> None:
        """Three patients, three clinicians, an administrator."""
        with self.db.service("user:tester") as tx:
            for who in PATIENTS:
                patient(tx, who, "none")
                self.actors[who] = Actor(user(tx, Role.PATIENT, patient=who), Role.PATIENT)
                self.model.team[who] = "none"
            for doctor in DOCTORS:
                self.actors[doctor] = Actor(user(tx, Role.CLINICIAN, clinician=doctor), Role.CLINICIAN)
            self.actors["admin"] = Actor(user(tx, Role.ADMINISTRATOR), Role.ADMINISTRATOR)

    @rule(doctor=st.sampled_from(DOCTORS), who=st.sampled_from(PATIENTS))
    def assign_or_end(self, doctor: str, who: str) -> None:
        """Put a clinician on a care team, or take them off."""
        with self.db.acting(self.actors["admin"]) as tx:
            if self.model.direct.get((doctor, who)):
                wanted = {"patient": who, "clinician": doctor, "status": "active"}
                transition(tx, "care_team", find(tx, "care_team", Query(wanted)).records[0].id, "end")
                self.model.direct[doctor, who] = False
            else:
                create(tx, "care_team", {"patient": who, "clinician": doctor})
                self.model.direct[doctor, who] = True

    @rule(doctor=st.sampled_from(DOCTORS), team=st.sampled_from(TEAMS))
    def join_or_leave(self, doctor: str, team: str) -> None:
        """Change who is in an alert team."""
        inside = self.model.member.get((doctor, team), False)
        text = (
            "DELETE FROM clinician_teams WHERE clinician_id = %s AND team = %s" if inside
            else "INSERT INTO clinician_teams (clinician_id, team) VALUES (%s, %s)"
        )  # fmt: skip
        with self.db.service("user:tester") as tx:
            tx.execute(text, (doctor, team))
        self.model.member[doctor, team] = not inside
        self.model.meet()

    @rule(who=st.sampled_from(PATIENTS), team=st.sampled_from(TEAMS))
    def move(self, who: str, team: str) -> None:
        """Give a patient another alert team."""
        with self.db.service("user:tester") as tx:
            tx.execute("UPDATE patients SET team = %s WHERE patient_id = %s", (team, who))
        self.model.team[who] = team
        self.model.meet()

    @rule(doctor=st.sampled_from(DOCTORS), who=st.sampled_from(PATIENTS))
    def break_or_close(self, doctor: str, who: str) -> None:
        """Open a record in an emergency, or close it; refused to those who need not."""
        actor = self.actors[doctor]
        relation = self.model.relation(doctor, who)
        kind = RECORDS["break_glass"]
        if relation is Relation.BREAK_GLASS:
            with self.db.acting(actor) as tx:
                wanted = Query({"patient": who, "status": "open", "user": actor.user_id})
                for one in find(tx, kind, wanted).records:
                    transition(tx, kind, one.id, "end")
            self.model.glass.discard((doctor, who))
            return
        allowed = relation in (Relation.STRANGER, Relation.FORMERLY) and actor.user_id not in self.model.disabled
        assert self._try(actor, lambda tx: create(tx, kind, given(kind, "create", who))) == allowed
        if allowed:
            self.model.glass.add((doctor, who))

    @rule(name=st.sampled_from((*PATIENTS, *DOCTORS)))
    def disable_or_enable(self, name: str) -> None:
        """Take an account's access, or give it back."""
        target = self.actors[name].user_id
        verb = "enable" if target in self.model.disabled else "disable"
        with self.db.acting(self.actors["admin"]) as tx:
            tx.execute("SELECT administer(%s, %s, '{}')", (target, verb))
        self.model.disabled ^= {target}

    @rule(kind=st.sampled_from(KINDS), name=st.sampled_from((*PATIENTS, *DOCTORS)), who=st.sampled_from(PATIENTS))
    def write(self, kind: str, name: str, who: str) -> None:
        """Somebody makes a record of some patient."""
        actor = self.actors[name]
        made: list[str] = []
        values = given(RECORDS[kind], "create", who) | ({"kind": f"k{next(self.serial)}"} if "plan" in kind else {})
        done = self._try(actor, lambda tx: made.append(create(tx, kind, values).id))
        assert done == (self._condition(kind, "create", name, who) is not None)
        if done:
            side = "care" if actor.role is Role.PATIENT else "patient"
            self.model.rows[made[0]] = {
                "kind": kind, "patient": who, "published": False, "from": actor.user_id, "side": side,
            }  # fmt: skip

    @rule(data=st.data(), name=st.sampled_from((*PATIENTS, *DOCTORS)))
    def go_on(self, data: st.DataObject, name: str) -> None:
        """Somebody releases a record to the patient, or reads a message."""
        if not self.model.rows:
            return
        identity = data.draw(st.sampled_from(sorted(self.model.rows)))
        row = self.model.rows[identity]
        verbs = {"lab_result": ["finalise", "publish"], "treatment_plan": ["activate"], "message": ["mark_read"]}
        for verb in verbs[row["kind"]]:
            done = self._try(self.actors[name], lambda tx, v=verb: transition(tx, row["kind"], identity, v))
            condition = self._condition(row["kind"], verb, name, row["patient"])
            assert not done or (condition is not None and self._holds(condition, name, row))
            if done and verb in ("publish", "activate"):
                row["published"] = True

    @invariant()
    def everybody_sees_what_the_model_says(self) -> None:
        """Lists, versions and live changes, for everybody."""
        if not self.actors:
            return
        names = list(self.actors)
        records_changes.number(self.db)
        changes = [one for one in records_changes.read(self.db, 0, 5000) if one.id in self.model.rows]
        told = records_changes.deliver(self.db, changes, [self.actors[name] for name in names])
        for place, name in enumerate(names):
            expected = {
                identity for identity, row in self.model.rows.items()
                if (condition := self._condition(row["kind"], "read", name, row["patient"])) is not None
                and self._holds(condition, name, row)
            }  # fmt: skip
            with self.db.acting(self.actors[name]) as tx:
                seen = {one.id for kind in KINDS for one in find(tx, kind, Query(limit=500)).records}
                older = {row[0] for row in tx.execute("SELECT DISTINCT id FROM record_versions WHERE record = ANY(%s)",
                                                      (list(KINDS),))}  # fmt: skip
            assert seen == expected, (name, seen ^ expected)
            assert older == expected, (name, older ^ expected)
            newest = {one.id: one.position for one in changes}
            live = {one.id for one in changes if place in told.get(one.position, []) and newest[one.id] == one.position}
            assert live == expected, (name, live ^ expected)

    def _condition(self, kind: str, verb: str, name: str, who: str) -> Condition | None:
        actor = self.actors[name]
        if actor.user_id in self.model.disabled:
            return None
        if name in DOCTORS:
            return condition_of(kind, verb, Role.CLINICIAN, self.model.relation(name, who))
        relation = Relation.OWN if name == who else Relation.STRANGER
        return condition_of(kind, verb, actor.role, relation)

    def _holds(self, condition: Condition, name: str, row: dict[str, Any]) -> bool:
        mine = row["from"] == self.actors[name].user_id
        addressed = row["side"] == ("care" if name in DOCTORS else "patient")
        return {
            Condition.NONE: True, Condition.PUBLISHED: row["published"], Condition.AUTHOR: mine,
            Condition.PARTY: mine or addressed, Condition.RECIPIENT: addressed and not mine,
        }[condition]  # fmt: skip

    def _try(self, actor: Actor, act: Any) -> bool:
        try:
            with self.db.acting(actor) as tx:
                act(tx)
        except (NotAllowed, NotFound, Conflict):
            return False
        return True


@pytest.fixture
def machine(database: DatabaseSettings) -> type[Leaks]:
    """The machine over this database."""
    return type("Leaks", (Leaks,), {"database": database})


def test_nothing_leaks(machine: type[Leaks]) -> None:
    # A step looks through everybody's eyes, so that few say much.
    tries = 3 if machine.database.timescale == "off" else 1
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis has no types for it
        machine, settings=hypothesis_settings(max_examples=tries, stateful_step_count=20, deadline=None)
    )
