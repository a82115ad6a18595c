"""GraphQL by a client that we did not write: reading, changing, no N+1, limits, subscriptions, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from gql import Client, gql
from gql.transport.exceptions import TransportQueryError
from gql.transport.httpx import HTTPXTransport
from gql.transport.websockets import WebsocketsTransport

from tests.api.conftest import Api
from vitalgate.storage.records_database import Transaction


def _client(api: Api, name: str) -> Client:
    headers = api.people[name].headers if name else {}
    return Client(
        transport=HTTPXTransport(f"{api.url}/graphql", headers=headers, timeout=30),
        fetch_schema_from_transport=bool(name),
    )


def _do(api: Api, name: str, text: str, **variables: Any) -> dict[str, Any]:
    query = gql(text)
    query.variable_values = variables
    found: dict[str, Any] = _client(api, name).execute(query)
    return found


def _refusal(api: Api, name: str, text: str, **variables: Any) -> dict[str, Any]:
    with pytest.raises(TransportQueryError) as error:
        _do(api, name, text, **variables)
    assert error.value.errors
    found: dict[str, Any] = error.value.errors[0]
    return found


def test_a_record_is_made_and_read_with_its_patient(api: Api) -> None:
    made = _do(
        api, "carla",
        "mutation ($input: LabResultCreate!) { createLabResult(input: $input) { id status abnormalFlag version } }",
        input={
            "patient": "p-anna", "testCode": "718-7", "testName": "Hemoglobin", "resultValue": 9.1, "units": "g/dL",
            "referenceRange": {"low": 12, "high": 16},
        },
    )["createLabResult"]  # fmt: skip
    assert (made["status"], made["abnormalFlag"], made["version"]) == ("preliminary", "L", 1)
    read = _do(
        api, "carla",
        "query ($id: ID!) { labResult(id: $id) { resultValue patientProfile { displayName fullName } } }",
        id=made["id"],
    )["labResult"]  # fmt: skip
    assert read == {"resultValue": 9.1, "patientProfile": {"displayName": "Anna", "fullName": "Anna"}}
    hidden = _refusal(api, "anna", "query ($id: ID!) { labResult(id: $id) { id } }", id=made["id"])
    assert hidden["extensions"] == {"code": "not-found", "status": 404}
    final = _do(
        api, "carla", "mutation ($id: ID!) { finaliseLabResult(id: $id, version: 1) { status version } }", id=made["id"]
    )
    assert final["finaliseLabResult"] == {"status": "final", "version": 2}
    changed = _refusal(
        api, "carla", "mutation ($id: ID!) { publishLabResult(id: $id, version: 1) { status } }", id=made["id"]
    )
    assert changed["extensions"]["status"] == 412


def test_lists_are_filtered_and_paged(api: Api) -> None:
    for text in ("one", "two", "three"):
        _do(
            api, "anna", 'mutation ($b: String!) { createMessage(input: {patient: "p-anna", body: $b}) { id } }', b=text
        )
    query = """query ($after: String) {
        messages(filter: {patient: ["p-anna"], status: ["sent"]}, first: 2, after: $after) { data { id body } next }
    }"""
    first = _do(api, "anna", query)["messages"]
    second = _do(api, "anna", query, after=first["next"])["messages"]
    assert len(first["data"]) == 2 and not {m["id"] for m in first["data"]} & {m["id"] for m in second["data"]}


@contextmanager
def _counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Statements that read records; setting the user and auditing are the same for each transaction."""
    statements: list[str] = []
    execute = Transaction.execute

    def counting(self: Transaction, text: Any, values: Any = None) -> Any:
        statements.append(str(text))
        return execute(self, text, values)

    from vitalgate.storage import records_read

    rows = records_read._rows

    def reading(tx: Any, kind: Any, *rest: Any, **more: Any) -> Any:
        statements.append(f"read {kind.name}")
        return rows(tx, kind, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "execute", counting)
        patched.setattr(records_read, "_rows", reading)
        yield statements


def test_the_number_of_statements_does_not_grow_with_the_number_of_records(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = """{ messages(filter: {patient: ["p-anna"]}, first: %d) {
        data { id patientProfile { displayName appointments(first: 3) { id } } } } }"""
    counts = []
    for first in (1, 30):
        with _counted(monkeypatch) as statements:
            found = _do(api, "carla", query % first)["messages"]["data"]
            counts.append(sum(one.startswith("read") for one in statements))
        assert all(one["patientProfile"]["displayName"] == "Anna" for one in found)
    assert counts == [3, 3]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{ messages { data { patientProfile { messages { patientProfile { messages { patientProfile { messages {"
         " patientProfile { id } } } } } } } } } }", "too-dear"),
        ("{ patientProfiles(first: 500) { data { messages(first: 500) { id } } } }", "too-dear"),
        ("{ messages(first: 9999) { data { id } } }", "too-dear"),
        ("{ messages(first: 501) { data { id } } }", "bad-parameter"),
        ('{ messages(sort: "body") { data { id } } }', "invalid"),
        ('{ messages(after: "nonsense") { data { id } } }', "invalid"),
    ],
)  # fmt: skip
def test_what_is_too_deep_too_dear_or_wrong_is_refused(api: Api, query: str, code: str) -> None:
    assert _refusal(api, "carla", query)["extensions"]["code"] == code


def test_without_a_log_in_nothing_is_told(api: Api) -> None:
    assert _refusal(api, "", "{ messages { data { id } } }")["extensions"]["status"] == 401


def test_unknown_fields_are_refused_without_a_trace_of_the_inside(api: Api) -> None:
    with api.client("carla") as carla:
        answer = carla.post("/graphql", json={"query": "{ nothing }"})
        assert "Cannot query field" in answer.json()["errors"][0]["message"]
        wrong = carla.post(
            "/graphql", json={"query": 'mutation { createMessage(input: {patient: "p-anna", body: "\\u0000"}) { id } }'}
        )
        assert wrong.json()["errors"][0]["extensions"]["status"] == 422


def test_a_subscription_gets_each_change_once_and_resumes(api: Api) -> None:
    async def run() -> None:
        transport = WebsocketsTransport(
            api.url.replace("http", "ws") + "/graphql",
            init_payload={"token": api.people["anna"].tokens["accessToken"]},
        )
        text = """subscription ($after: String) { changes(record: ["message"], after: $after) {
            position heartbeat id verb } }"""

        async def take(after: str | None, count: int, send: bool) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            async with Client(transport=transport) as session:
                query = gql(text)
                query.variable_values = {"after": after}
                sent = False
                async for item in session.subscribe(query):
                    change = item["changes"]
                    if not sent and send:
                        await asyncio.to_thread(_send, api)
                        sent = True
                    if not change["heartbeat"]:
                        found.append(change)
                    elif not found:
                        start.append(change["position"])
                    if len(found) == count:
                        break
            return found

        start: list[str] = []
        live = await asyncio.wait_for(take(None, 2, True), 30)
        assert [one["verb"] for one in live] == ["create", "create"]
        again = await asyncio.wait_for(take(start[0], 2, False), 30)
        assert again == live
        after_first = await asyncio.wait_for(take(live[0]["position"], 1, False), 30)
        assert after_first == live[1:]

    asyncio.run(run())


def _send(api: Api) -> None:
    with api.client("carla") as carla:
        for body in ("a", "b"):
            assert carla.post("/v1/messages", json={"patient": "p-anna", "body": body}).status_code == 201
