"""The permission matrix over REST, GraphQL and live queries: role, record, verb and relation, from the one table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.api.conftest import Api
from tests.storage.builders import SECOND, T0, Log, reading
from tests.storage.records_cast import Cast, cast, given, path_to, prepared
from vitalgate.config.settings import KafkaSettings
from vitalgate.records.catalogue import RECORDS
from vitalgate.records.permissions import Condition, Relation, Role, condition_of
from vitalgate.records.record_type import RecordType, Transition
from vitalgate.storage import records_changes
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.records_database import Actor
from vitalgate.storage.records_login import _begin
from vitalgate.storage.records_read import Record, get
from vitalgate.storage.records_write import create
from vitalgate.storage.registry import NewDevice, Registry

#: Opening a record in an emergency changes the relation itself: it has tests of its own, here and in the storage room.
WRITTEN = [kind for kind in RECORDS.values() if kind.table and kind.name != "break_glass"]
UNSAID = ("hold", "expire")


@pytest.fixture(scope="module")
def people(api: Api) -> Iterator[Cast]:
    """The cast of the storage tests, in the database of the API."""
    yield from cast(api.services.settings.database)


@pytest.fixture(scope="module")
def tokens(api: Api, people: Cast) -> dict[str, str]:
    """Of each user, a session."""
    found = {}
    with api.services.database.accounts() as tx:
        for actor in people.people.values():
            made = _begin(tx, actor.user_id, "test", "", datetime.now(UTC), second_factor=False)
            found[actor.user_id] = made.access_token
    return found


def _client(api: Api, actor: Actor, tokens: dict[str, str]) -> httpx.Client:
    headers = {"authorization": f"Bearer {tokens[actor.user_id]}", "x-role": actor.role.value}
    return httpx.Client(base_url=api.url, headers=headers, timeout=30)


def _body(kind: RecordType, verb: str, patient: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(
        given(kind, verb, patient), default=lambda value: value.isoformat() if isinstance(value, date) else str(value)
    ))  # fmt: skip
    return found


def _fresh(people: Cast, kind: RecordType, verbs: list[str], actor: Actor | None = None, verb: str = "") -> Record:
    """A record in this state, such that the verb's condition holds for whoever may do it at all."""
    if kind.name == "message" and actor is not None:
        theirs = actor.role is Role.PATIENT
        own, care = (Role.PATIENT, Relation.OWN), (Role.CLINICIAN, Relation.ASSIGNED)
        with people.db.acting(people.of(*(own if theirs == (verb == "withdraw") else care))) as tx:
            return create(tx, kind, given(kind, "create", people.patient))
    with people.db.service("service:test") as tx:
        return prepared(tx, kind, verbs, people.patient)


def _remove(people: Cast, kind: RecordType, identity: str) -> None:
    with people.db.service("service:test") as tx:
        tx.connection.execute(b"SET LOCAL session_replication_role = replica")
        tx.execute(f"DELETE FROM {kind.table} WHERE id = %s", (identity,))
        tx.execute("DELETE FROM record_versions WHERE record = %s AND id = %s", (kind.name, identity))


def _by_rest(client: httpx.Client, kind: RecordType, step: Transition, record: Record | None, patient: str) -> Any:
    spelt = step.verb.replace("_", "-")
    body = _body(kind, step.verb, patient)
    if record is None:
        return client.post(f"/v1/{kind.path}" + ("" if spelt == "create" else f"/{spelt}"), json=body)
    if spelt == "change":
        return client.patch(f"/v1/{kind.path}/{record.id}", json=body)
    return client.post(f"/v1/{kind.path}/{record.id}/{spelt}", json=body)


def _by_graphql(client: httpx.Client, kind: RecordType, step: Transition, record: Record | None, patient: str) -> Any:
    head, *rest = step.verb.split("_")
    name = head + "".join(part.title() for part in rest) + kind.title
    body = _body(kind, step.verb, patient)
    model = kind.input_model(step.verb)
    declared, passed = [], []
    if record is not None:
        declared, passed = ["$id: ID!"], ["id: $id"]
    if model.model_fields:
        declared.append(f"$input: {model.__name__}{'!' if record is None else ''}")
        passed.append("input: $input")
    text = f"mutation ({', '.join(declared)}) {{ {name}({', '.join(passed)}) {{ id }} }}"
    variables = {"id": record.id if record else None, "input": body}
    if not model.model_fields:
        del variables["input"]
    if record is None:
        del variables["id"]
    return client.post("/graphql", json={"query": text, "variables": variables})


def _allowed(answer: httpx.Response) -> bool:
    body = answer.json()
    refused = "errors" in body and "data" in body
    status = body["errors"][0]["extensions"]["status"] if refused else answer.status_code
    assert status in (200, 201, 403, 404), answer.text
    return status in (200, 201)


def _made(answer: httpx.Response) -> str:
    body = answer.json()
    if "data" in body and "id" not in body:
        (found,) = body["data"].values()
        return str(found["id"])
    return str(body["id"])


@pytest.mark.parametrize("kind", WRITTEN, ids=lambda kind: kind.name)
def test_every_verb_for_everybody(api: Api, people: Cast, tokens: dict[str, str], kind: RecordType) -> None:
    wrong = []
    for step in kind.transitions.values():
        if step.verb in UNSAID:
            continue
        # What is refused changes nothing: one record does for all who may not.
        shared = None if step.creates else _fresh(people, kind, path_to(kind, step))
        refused = [one for one in people.people.items() if condition_of(kind.name, step.verb, *one[0]) is None]
        for (role, relation), actor in refused:
            with _client(api, actor, tokens) as client:
                for way in (_by_rest, _by_graphql):
                    answer = way(client, kind, step, shared, people.patient)
                    if _allowed(answer):
                        wrong.append((step.verb, role.value, relation.value, way.__name__, answer.text[:200]))
        if shared is not None:
            _remove(people, kind, shared.id)
        for (role, relation), actor in people.people.items():
            if condition_of(kind.name, step.verb, role, relation) is None:
                continue
            for way in (_by_rest, _by_graphql):
                record = None if step.creates else _fresh(people, kind, path_to(kind, step), actor, step.verb)
                with _client(api, actor, tokens) as client:
                    answer = way(client, kind, step, record, people.patient)
                if not _allowed(answer):
                    wrong.append((step.verb, role.value, relation.value, way.__name__, answer.text[:200]))
                _remove(people, kind, record.id if record is not None else _made(answer))
    assert not wrong


@pytest.mark.parametrize("kind", WRITTEN, ids=lambda kind: kind.name)
def test_everybody_reads_what_the_table_says_by_every_interface(
    api: Api, people: Cast, tokens: dict[str, str], kind: RecordType
) -> None:
    publish = kind.transitions.get("publish")
    wrong = []
    for shown in (False, True):
        if shown and publish is None:
            continue
        before = records_changes.newest(people.db)
        verbs = ["create"]
        if shown and publish is not None:
            verbs = [*path_to(kind, publish), "publish"]
        record = _fresh(people, kind, verbs) if kind.name != "care_team" else _membership(people)
        records_changes.number(people.db)
        begin = 0 if kind.name == "care_team" else before
        changes = [one for one in records_changes.read(people.db, begin) if one.id == record.id]
        actors = list(people.people.values())
        told = records_changes.deliver(people.db, changes, actors)
        for number, ((role, relation), actor) in enumerate(people.people.items()):
            condition = condition_of(kind.name, "read", role, relation)
            expected = condition is not None and not (condition is Condition.PUBLISHED and not shown)
            if condition is Condition.PUBLISHED and kind.name == "treatment_plan":
                expected = False  # a draft
            with _client(api, actor, tokens) as client:
                rest = client.get(f"/v1/{kind.path}/{record.id}").status_code == 200
                listed = record.id in {
                    one["id"] for one in client.get(f"/v1/{kind.path}", params={"limit": 500}).json()["data"]
                }
                name = kind.title
                text = f"query ($id: ID!) {{ found: {_query_name(kind)}(id: $id) {{ id }} }}"
                answer = client.post("/graphql", json={"query": text, "variables": {"id": record.id}}).json()
                by_graphql = bool(answer.get("data") and answer["data"].get("found"))
            live = bool(changes) and number in told.get(changes[-1].position, [])
            if {rest, listed, by_graphql, live} != {expected}:
                wrong.append((name, role.value, relation.value, shown, rest, listed, by_graphql, live))
        if kind.name != "care_team":
            _remove(people, kind, record.id)
    assert not wrong


def _membership(people: Cast) -> Record:
    """The line of the clinician who is assigned: a further one would change who is what."""
    with people.db.service("service:test") as tx:
        row = tx.execute("SELECT id FROM care_team WHERE clinician_id = 'dr-assigned'").fetchone()
        assert row is not None
        return get(tx, "care_team", row[0])


def _query_name(kind: RecordType) -> str:
    from vitalgate.api.graphql_schema import _SAME, _camel

    return _camel(kind) + ("Entry" if kind.name in _SAME else "")


def test_a_device_manager_and_a_stranger_read_no_value(api: Api, people: Cast, tokens: dict[str, str]) -> None:
    database = api.services.settings.database
    begin = datetime.fromtimestamp(T0 / SECOND, UTC)
    with Registry(database, who="user:test") as registry:
        registry.add_devices(
            [NewDevice("matrix-ox", "pulse-oximeter", "", people.patient, since=begin - timedelta(hours=1))]
        )
    log = Log(5)
    with Recorder(database, KafkaSettings()) as recorder:
        recorder.apply(log.batch(log.message("matrix-ox", 1, readings=[reading(88.0)])))
    window = {
        name: moment.isoformat().replace("+00:00", "Z")
        for name, moment in (("from", begin - timedelta(minutes=1)), ("to", begin + timedelta(minutes=10)))
    }
    for (role, relation), actor in people.people.items():
        may = condition_of("device_data", "read", role, relation) is not None
        with _client(api, actor, tokens) as client:
            base = f"/v1/patients/{people.patient}"
            for path, more in (
                ("/readings/latest", {}), ("/readings", {"metric": "spo2", **window}),
                ("/readings/aggregates", {"metric": "spo2", **window}),
                ("/waveforms", {"channel": "ecg.II", **window}), ("/beats", window), ("/features", window),
            ):  # fmt: skip
                answer = client.get(base + path, params=more)
                assert answer.status_code in ((200,) if may else (200, 403, 404)), answer.text
                body = answer.json()
                found = body.get("data") or body.get("stretches") if answer.status_code == 200 else None
                if not may:
                    assert not found, (role, relation, path)
                elif path in ("/readings/latest", "/readings"):
                    assert found, (role, relation, path)
