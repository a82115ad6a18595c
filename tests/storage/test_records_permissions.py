"""Every role x record x verb x relation, generated from the one table; by the storage functions and by plain SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from tests.storage.records_cast import SOON, Cast, cast, given, path_to, prepared
from vitalgate.config.settings import DatabaseSettings
from vitalgate.records.catalogue import RECORDS
from vitalgate.records.errors import NotAllowed, NotFound
from vitalgate.records.permissions import Condition, Relation, Role, condition_of, permissions
from vitalgate.records.record_type import RecordType, Transition
from vitalgate.storage.records_database import Actor, Transaction
from vitalgate.storage.records_read import Record, find, get, versions
from vitalgate.storage.records_write import create, transition

WRITTEN = [kind for kind in RECORDS.values() if kind.table]


@pytest.fixture
def people(database: DatabaseSettings) -> Iterator[Cast]:
    """The cast."""
    yield from cast(database)


def test_the_table_speaks_of_records_and_verbs_that_there_are() -> None:
    for one in permissions():
        kind = RECORDS[one.record]
        known = {"read", *kind.transitions} | ({"create", "approve", "disable", "enable", "grant", "end"}
                                               if kind.name in ("user", "session") else set())  # fmt: skip
        assert one.verb in known, one
        assert not one.verb.startswith("delete")
    for kind in WRITTEN:
        for verb in kind.transitions:
            lines = [one for one in permissions() if (one.record, one.verb) == (kind.name, verb)]
            # The retention policy is a program of ours and nobody's right.
            assert bool(lines) == (verb != "expire"), (kind.name, verb)


@pytest.mark.parametrize("kind", WRITTEN, ids=lambda kind: kind.name)
def test_every_verb_for_everybody(people: Cast, kind: RecordType, database: DatabaseSettings) -> None:
    # The tables of records are the same in both forms; the wall is, too.
    ways = (_by_function, _by_sql) if database.timescale == "off" else (_by_sql,)
    wrong = []
    for step in kind.transitions.values():
        if step.verb in ("hold", "expire"):
            continue
        for (role, relation), actor in people.people.items():
            record = None if step.creates else _record(people, kind, step, actor)
            expected = condition_of(kind.name, step.verb, role, relation) is not None
            for way in ways:
                allowed = way(people, kind, step, actor, record)
                if allowed != expected:
                    wrong.append((step.verb, role.value, relation.value, way.__name__, allowed))
    assert not wrong


@pytest.mark.parametrize("kind", WRITTEN, ids=lambda kind: kind.name)
def test_everybody_reads_what_the_table_says(people: Cast, kind: RecordType) -> None:
    publish = kind.transitions.get("publish")
    wrong = []
    for (role, relation), actor in people.people.items():
        condition = condition_of(kind.name, "read", role, relation)
        for shown in (False, True):
            if shown and publish is None and kind.name != "treatment_plan":
                continue
            with people.db.service("user:tester") as tx:
                record = _shown(people, tx, kind, shown)
            hidden = condition is Condition.PUBLISHED and not shown
            expected = condition is not None and not hidden
            with people.trial(actor) as tx:
                listed = record.id in {one.id for one in find(tx, kind).records}
                try:
                    got = get(tx, kind, record.id).id == record.id
                except NotFound:
                    got = False
                try:
                    older = bool(versions(tx, kind, record.id))
                except NotFound:
                    older = False
            if not listed == got == older == expected:
                wrong.append((role.value, relation.value, shown, listed, got, older))
            with people.db.service("user:tester") as tx:
                _remove(tx, kind, record, people)
    assert not wrong


def test_care_by_team_and_its_end(people: Cast) -> None:
    """A member of the patient's alert team is assigned; leaving it, or the patient's moving, makes that `formerly`."""
    actor = people.of(Role.CLINICIAN, Relation.STRANGER)
    name = people.clinicians[actor.user_id]

    def relation() -> str:
        with people.db.acting(actor) as tx:
            row = tx.execute("SELECT relation_to(%s), %s = ANY(seen('device_data', 'read', ''))",
                             (people.patient, people.patient)).fetchone()  # fmt: skip
            assert row is not None
            assert row[1] == (row[0] == "assigned")
            return str(row[0])

    def run(text: str, *values: object) -> None:
        with people.db.service("user:tester") as tx:
            tx.execute(text, values)

    assert relation() == "stranger"
    run("INSERT INTO clinician_teams (clinician_id, team) VALUES (%s, 'red')", name)
    assert relation() == "assigned"
    run("UPDATE patients SET team = 'blue' WHERE patient_id = %s", people.patient)
    assert relation() == "formerly"
    run("UPDATE patients SET team = 'red' WHERE patient_id = %s", people.patient)
    assert relation() == "assigned"
    run("DELETE FROM clinician_teams WHERE clinician_id = %s AND team = 'red'", name)
    assert relation() == "formerly"
    run("INSERT INTO clinician_teams (clinician_id, team) VALUES (%s, 'red')", name)
    run("UPDATE clinicians SET state = 'revoked' WHERE clinician_id = %s", name)
    assert relation() == "formerly"
    run("UPDATE users SET status = 'disabled' WHERE id = %s", actor.user_id)
    assert relation() == "stranger"


def test_a_role_that_the_user_does_not_have_is_none(people: Cast) -> None:
    for role in Role:
        for actor in set(people.people.values()):
            if role is actor.role:
                continue
            with people.trial(Actor(actor.user_id, role)) as tx:
                for kind in RECORDS.values():
                    assert not find(tx, kind).records


def test_the_application_without_a_user_sees_and_does_nothing(people: Cast) -> None:
    with people.db.service("user:tester") as tx:
        for kind in WRITTEN:
            if kind.name not in ("patient_profile", "care_team", "break_glass"):
                prepared(tx, kind, ["create"], people.patient)
        relations = tx.execute(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
            " AND n.nspname NOT LIKE '%%timescaledb%%'"
            " AND (has_table_privilege(%(app)s, c.oid, 'SELECT') OR has_any_column_privilege(%(app)s, c.oid, 'SELECT'))"
            " AND n.nspname LIKE %(own)s",
            {"app": people.db.names.app_role, "own": f"{people.db.names.schema}%"},
        ).fetchall()
        mine = {name.split(".")[-1] for (name,) in relations}
        assert {"messages", "ecg_reports", "record_versions", "device_data", "audit_log", "user_accounts"} <= mine
        assert not {"readings", "permissions", "session_tokens", "audit_outbox", "changes", "manual_entries"} & mine
        tx.execute("SELECT set_config('vitalgate.who', '', true)")
        tx.execute(f"SET LOCAL ROLE {people.db.names.app_role}")
        for name in sorted(mine):
            row = tx.execute(f"SELECT count(*) FROM (SELECT 1 FROM {name} LIMIT 10) AS t").fetchone()
            assert row == (0,), name
        for text in (
            "INSERT INTO messages (patient_id, body) VALUES ('p-own', 'x')", "UPDATE messages SET body = 'x'",
            "DELETE FROM messages", "SELECT * FROM vgt_none.readings", "SELECT number_changes()",
            "SELECT administer('u', 'disable', '{}')", "SELECT enter_by_hand('p-own', '[]')", "SET row_security = off",
            "SELECT audit_as('user:x', 'a', 'b', 'c', NULL, 'success', '{}')",
        ):  # fmt: skip
            with suppress(psycopg.Error, _Done), tx.connection.transaction():
                assert tx.execute(text).rowcount <= 0, text
                raise _Done


def test_nothing_of_the_tables_over_time_is_open(people: Cast) -> None:
    with people.db.service("user:tester") as tx:
        open_ = tx.execute(
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s"
            " AND c.relkind IN ('r', 'v', 'p', 'm') AND has_table_privilege(%s, c.oid, 'SELECT')",
            (people.db.names.data, people.db.names.app_role),
        ).fetchone()
        assert open_ == (0,)
        usage = tx.execute(
            "SELECT has_schema_privilege(%s, %s, 'USAGE'), has_schema_privilege(%s, %s, 'USAGE')",
            (people.db.names.app_role, people.db.names.data, people.db.names.auth_role, people.db.names.data),
        ).fetchone()
        assert usage == (False, False)


def test_the_log_in_sees_no_record(people: Cast) -> None:
    with people.db.service("user:tester") as tx:
        prepared(tx, RECORDS["message"], ["create"], people.patient)
    for table in ("messages", "patient_profiles", "ecg_reports", "record_versions", "device_data", "audit_log"):
        with pytest.raises(NotAllowed), people.db.accounts() as tx:
            tx.execute(f"SELECT * FROM {table}")


class _Done(Exception):
    pass


def _by_function(people: Cast, kind: RecordType, step: Transition, actor: Actor, record: Record | None) -> bool:
    values = given(kind, step.verb, people.patient)
    done = False
    try:
        with people.trial(actor) as tx:
            if record is None:
                create(tx, kind, values, verb=step.verb)
            else:
                transition(tx, kind, record.id, step.verb, values)
            done = True
    except (NotAllowed, NotFound):
        return False
    return done


def _by_sql(people: Cast, kind: RecordType, step: Transition, actor: Actor, record: Record | None) -> bool:
    """Past our functions: as the application's role, with the verb that somebody sets."""
    if record is None:
        return _insert(people, kind, step, actor)
    done = False
    try:
        with people.trial(actor) as tx:
            tx.execute("SELECT set_config('vitalgate.verb', %s, true)", (step.verb,))
            more = ""
            if kind.name == "appointment" and step.verb == "reschedule":
                more = ", start_at = start_at + interval '1 day', end_at = end_at + interval '1 day'"
            cursor = tx.execute(f"UPDATE {kind.table} SET version = version{more} WHERE id = %s", (record.id,))
            done = cursor.rowcount == 1
    except NotAllowed:
        return False
    return done


def _insert(people: Cast, kind: RecordType, step: Transition, actor: Actor) -> bool:
    rows = {
        "monitoring_log": "(patient_id, data, timestamp) VALUES (%(p)s, '{\"a\": 1}', now())",
        "ecg_report": "(patient_id, report_type) VALUES (%(p)s, 'strip')",
        "cardiac_rehab_log": "(patient_id, exercise_type, date) VALUES (%(p)s, 'rowing', now())",
        "message": "(patient_id, body) VALUES (%(p)s, 'x')",
        "appointment": "(patient_id, provider, start_at, end_at) VALUES (%(p)s, 'dr-assigned', %(t)s, %(t)s + interval"
                       " '1 hour')",
        "lab_result": "(patient_id, test_code, test_name, result_value) VALUES (%(p)s, '1-8', 'x', '\"x\"')",
        "treatment_plan": "(patient_id, kind, summary) VALUES (%(p)s, 'x', 'x')",
        "care_team": "(patient_id, clinician_id) VALUES (%(p)s, 'dr-stranger')",
        "break_glass": "(patient_id, reason, until) VALUES (%(p)s, 'found so', now() + interval '1 minute')",
        "patient_profile": "(id, patient_id, medical_record_number, medical_record_number_index, display_name,"
        " display_name_index, date_of_birth, date_of_birth_index, time_zone)"
        " VALUES (%(p)s, %(p)s, '\\x00', 'i', '\\x00', 'i', '\\x00', 'i', 'UTC')",
    }  # fmt: skip
    done = False
    try:
        with people.trial(actor) as tx:
            tx.execute("SELECT set_config('vitalgate.verb', %s, true)", (step.verb,))
            tx.execute(f"INSERT INTO {kind.table} {rows[kind.name]}", {"p": people.patient, "t": SOON})
            done = True
    except NotAllowed:
        return False
    return done


def _record(people: Cast, kind: RecordType, step: Transition, actor: Actor) -> Record:
    """A record that the verb can be done with, such that its condition holds for whoever may do it at all."""
    if kind.name == "break_glass":
        with people.db.service("user:tester") as tx:
            return get(tx, kind, people.glass)
    author = None
    if kind.name == "message":
        theirs = actor.role is Role.PATIENT
        author = people.of(*(Role.PATIENT, Relation.OWN) if theirs == (step.verb == "withdraw")
                           else (Role.CLINICIAN, Relation.ASSIGNED))  # fmt: skip
    if kind.name == "patient_profile":
        with people.db.service("user:tester") as tx:
            found = find(tx, kind).records
            record = found[0] if found else prepared(tx, kind, ["create"], people.patient)
            if record.values["status"] not in step.frm:
                other = "activate" if record.values["status"] == "inactive" else "deactivate"
                record = transition(tx, kind, record.id, other)
            return record
    if author is not None:
        with people.db.acting(author) as tx:
            return create(tx, kind, given(kind, "create", people.patient))
    with people.db.service("user:tester") as tx:
        _clear(tx, kind)
        return prepared(tx, kind, path_to(kind, step), people.patient)


def _clear(tx: Transaction, kind: RecordType) -> None:
    """Make room: appointments at the same time, members of the team that are there."""
    if kind.name in ("appointment", "treatment_plan"):
        tx.execute(f"DELETE FROM {kind.table}")
    if kind.name == "care_team":
        tx.execute("DELETE FROM care_team WHERE clinician_id = 'dr-stranger'")


def _shown(people: Cast, tx: Transaction, kind: RecordType, shown: bool) -> Record:
    if kind.name == "break_glass":
        return get(tx, kind, people.glass)
    _clear(tx, kind)
    if kind.name == "patient_profile":
        tx.execute("DELETE FROM patient_profiles")
        tx.execute("DELETE FROM record_versions WHERE record = 'patient_profile'")
    if kind.name == "care_team":
        row = tx.execute("SELECT id FROM care_team WHERE clinician_id = 'dr-assigned'").fetchone()
        assert row is not None
        return get(tx, kind, row[0])
    if not shown:
        return prepared(tx, kind, ["create"], people.patient)
    step = kind.transitions.get("publish") or kind.transitions["suspend"]
    record = prepared(tx, kind, path_to(kind, step), people.patient)
    return transition(tx, kind, record.id, "publish") if "publish" in kind.transitions else record


def _remove(tx: Transaction, kind: RecordType, record: Record, people: Cast) -> None:
    if kind.name not in ("break_glass", "care_team"):
        tx.execute(f"DELETE FROM {kind.table} WHERE id = %s", (record.id,))
        tx.execute("DELETE FROM record_versions WHERE id = %s", (record.id,))
