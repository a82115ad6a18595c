"""Random people, teams, emergencies and changes over HTTP, against the reference model of the tests over SQL.

REST, GraphQL and live queries together: after each step everybody sees exactly what the model allows, and a live query
that is cut and taken up again has told each permitted change once.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from typing import Any

import httpx
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.api.conftest import Api
from tests.api.people import Person, log_in, sign_up
from tests.storage.records_cast import given
from tests.storage.test_records_leaks import DOCTORS, KINDS, PATIENTS, TEAMS, Model
from vitalgate.records.catalogue import RECORDS
from vitalgate.records.permissions import Condition, Relation, Role, condition_of
from vitalgate.storage import records_changes
from vitalgate.storage.registry import Registry
from vitalgate.storage.registry_clinicians import CareRegistry

PEOPLE = (*PATIENTS, *DOCTORS)
FIELDS = {"message": "messages", "lab_result": "labResults", "treatment_plan": "treatmentPlans"}
VERBS = {"lab_result": ["finalise", "publish"], "treatment_plan": ["activate"], "message": ["mark_read"]}
_ASK = "{" + " ".join(f"{field}(first: 200) {{ data {{ id }} }}" for field in FIELDS.values()) + "}"
_SERIAL = itertools.count()
_PATIENCE_S = 20.0


class Listener:
    """One live query in a thread; over a websocket or server-sent events."""

    def __init__(self, url: str, token: str, socket: bool, after: int | None) -> None:
        self.cursor = after
        self.reached = -1
        self.got: list[tuple[int, str, str]] = []
        self.over = False
        self._url, self._token, self._socket = url, token, socket
        self._close: Any = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(_PATIENCE_S), "a live query did not begin"

    def cut(self) -> int | None:
        """Break the connection; the cursor."""
        with contextlib.suppress(Exception):
            self._close()
        self._thread.join(_PATIENCE_S)
        return self.cursor

    def _take(self, kind: str, position: int, data: dict[str, Any]) -> None:
        if kind == "change":
            self.got.append((position, data["id"], data["verb"]))
        self.reached = self.cursor = position
        self._ready.set()

    def _run(self) -> None:
        with contextlib.suppress(httpx.HTTPError, ConnectionClosed, OSError, RuntimeError, AttributeError, ValueError):
            self._over_socket() if self._socket else self._over_events()
        self.over = True
        self._ready.set()

    def _over_socket(self) -> None:
        with connect(self._url.replace("http", "ws") + "/v1/live/socket") as ws:
            self._close = ws.close
            first = {"type": "subscribe", "token": self._token, "record": list(KINDS)}
            ws.send(json.dumps(first | ({} if self.cursor is None else {"after": self.cursor})))
            for text in ws:
                data = json.loads(text)
                self._take(data["type"], data["position"], data)

    def _over_events(self) -> None:
        query: dict[str, Any] = {"record": list(KINDS)} | ({} if self.cursor is None else {"after": self.cursor})
        with httpx.Client(base_url=self._url, headers={"authorization": f"Bearer {self._token}"}, timeout=30) as client:
            self._close = client.close
            with client.stream("GET", "/v1/live", params=query) as stream:
                position, kind = 0, ""
                for line in stream.iter_lines():
                    if line.startswith("id:"):
                        position = int(line[3:])
                    elif line.startswith("event:"):
                        kind = line[6:].strip()
                    elif line.startswith(":"):
                        self._take("heartbeat", position, {})
                    elif line.startswith("data:"):
                        if kind == "ended":
                            return
                        self._take(kind, position, json.loads(line[5:]))


class Leaks(RuleBasedStateMachine):
    """Rules change the API's world and the model alike; after each, everybody's view is what the model says."""

    api: Api

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.prefix = f"x{next(_SERIAL)}-"
        self.clients: dict[str, httpx.Client] = {}
        self.people: dict[str, Person] = {}
        self.listeners: dict[str, Listener] = {}
        self.cursors: dict[str, int | None] = {}
        self.lines: dict[tuple[str, str], str] = {}
        self.glasses: dict[tuple[str, str], str] = {}
        self.changes: list[tuple[int, str, str, dict[str, Any]]] = []
        self.due: dict[str, set[tuple[int, str, str]]] = {name: set() for name in PEOPLE}
        self.told: dict[str, list[tuple[int, str, str]]] = {name: [] for name in PEOPLE}
        self.before = 0
        self.plans = itertools.count()

    def id(self, name: str) -> str:
        """The name of a patient, clinician or team in this example."""
        return self.prefix + name

    @initialize()
    def begin(self) -> None:
        """Three patients, three clinicians, an administrator; all but the last listen."""
        database = self.api.services.database
        with CareRegistry(self.api.services.settings.database, who="user:test") as registry:
            for who in PATIENTS:
                registry.add_patient(self.id(who), "Europe/Berlin", self.id("none"))
                self.model.team[who] = "none"
            for doctor in DOCTORS:
                registry.add_clinician(self.id(doctor), doctor, "", [])
        for name in PEOPLE:
            own = {"patient": self.id(name)} if name in PATIENTS else {"clinician": self.id(name)}
            self.people[name] = sign_up(database, self.id(name), "patient" if name in PATIENTS else "clinician", **own)
        self.people["admin"] = sign_up(database, self.id("admin"), "administrator")
        for name in self.people:
            self._log_in(name)
        records_changes.number(database)
        self.before = records_changes.newest(database)
        for name in PEOPLE:
            self._listen(name, None)
        # So that there is something to leak from the first step on.
        doctor, who = DOCTORS[0], PATIENTS[0]
        self.assign_or_end(doctor, who)
        self.write(doctor, "lab_result", who, False)
        self.write(who, "message", who, True)
        self._note_changes()

    def teardown(self) -> None:
        """Every live query is told what is due, once; then all are closed."""
        try:
            if self.listeners:
                for name in PEOPLE:
                    if name not in self.listeners and self.people[name].user not in self.model.disabled:
                        self._resume(name)
                self._all_told()
        finally:
            for listener in self.listeners.values():
                listener.cut()
            for client in self.clients.values():
                client.close()

    # --- what happens -----------------------------------------------------------------------------------------------

    @rule(doctor=st.sampled_from(DOCTORS), who=st.sampled_from(PATIENTS))
    def assign_or_end(self, doctor: str, who: str) -> None:
        """Put a clinician on a care team, or take them off."""
        if self.model.direct.get((doctor, who)):
            self._do("admin", f"/v1/care-team/{self.lines[doctor, who]}/end", {}, 200)
            self.model.direct[doctor, who] = False
        else:
            body = {"patient": self.id(who), "clinician": self.id(doctor)}
            self.lines[doctor, who] = self._do("admin", "/v1/care-team", body, 201).json()["id"]
            self.model.direct[doctor, who] = True

    @rule(doctor=st.sampled_from(DOCTORS), team=st.sampled_from(TEAMS))
    def join_or_leave(self, doctor: str, team: str) -> None:
        """Change who is in an alert team, as the command line does."""
        inside = self.model.member.get((doctor, team), False)
        with self.api.services.database.service("user:test") as tx:
            tx.execute(
                "DELETE FROM clinician_teams WHERE clinician_id = %s AND team = %s" if inside
                else "INSERT INTO clinician_teams (clinician_id, team) VALUES (%s, %s)",
                (self.id(doctor), self.id(team)),
            )  # fmt: skip
        self.model.member[doctor, team] = not inside
        self.model.meet()

    @rule(who=st.sampled_from(PATIENTS), team=st.sampled_from(TEAMS))
    def move(self, who: str, team: str) -> None:
        """Give a patient another alert team."""
        with Registry(self.api.services.settings.database, who="user:test") as registry:
            registry.set_patient(self.id(who), team=self.id(team))
        self.model.team[who] = team
        self.model.meet()

    @rule(doctor=st.sampled_from(DOCTORS), who=st.sampled_from(PATIENTS))
    def break_or_close(self, doctor: str, who: str) -> None:
        """Open a record in an emergency, or close it; refused to those who need not."""
        relation = self.model.relation(doctor, who)
        if relation is Relation.BREAK_GLASS:
            if self._active(doctor):
                self._do(doctor, f"/v1/break-glass/{self.glasses[doctor, who]}/end", {}, 200)
                self.model.glass.discard((doctor, who))
            return
        body = given(RECORDS["break_glass"], "create", self.id(who))
        answer = self._post(doctor, "/v1/break-glass", {**body, "until": body["until"].isoformat()})
        allowed = relation in (Relation.STRANGER, Relation.FORMERLY) and self._active(doctor)
        assert (answer.status_code == 201) == allowed, answer.text
        if allowed:
            self.glasses[doctor, who] = answer.json()["id"]
            self.model.glass.add((doctor, who))

    @rule(name=st.sampled_from(PEOPLE))
    def disable_or_enable(self, name: str) -> None:
        """Take an account's access, or give it back: its tokens are good for nothing from the next request on."""
        user = self.people[name].user
        if user in self.model.disabled:
            self._do("admin", f"/v1/users/{user}/enable", {}, 204)
            self.model.disabled.discard(user)
            self._log_in(name)
            self._resume(name)
        else:
            self._do("admin", f"/v1/users/{user}/disable", {}, 204)
            self.model.disabled.add(user)
            assert self.clients[name].get("/v1/messages").status_code == 401
            self._leave(name)

    @rule(name=st.sampled_from(PEOPLE), kind=st.sampled_from(KINDS), who=st.sampled_from(PATIENTS), graph=st.booleans())
    def write(self, name: str, kind: str, who: str, graph: bool) -> None:
        """Somebody makes a record of some patient, over either interface."""
        values = given(RECORDS[kind], "create", self.id(who))
        if kind == "treatment_plan":
            values["kind"] = f"k{next(self.plans)}"
        values = json.loads(json.dumps(values, default=lambda one: one.isoformat()))
        title = RECORDS[kind].title
        if graph:
            text = f"mutation ($input: {title}Create!) {{ create{title}(input: $input) {{ id }} }}"
            made = (self._ask(name, text, {"input": values}) or {}).get(f"create{title}")
        else:
            answer = self._post(name, f"/v1/{RECORDS[kind].path}", values)
            made = answer.json() if answer.status_code == 201 else None
            assert made or answer.status_code in (401, 403, 404), answer.text
        assert (made is not None) == (self._condition(kind, "create", name, who) is not None)
        if made is not None:
            side = "care" if name in PATIENTS else "patient"
            self.model.rows[made["id"]] = {
                "kind": kind, "patient": who, "published": False, "from": name, "side": side,
            }  # fmt: skip

    @rule(data=st.data(), name=st.sampled_from(PEOPLE), graph=st.booleans())
    def go_on(self, data: st.DataObject, name: str, graph: bool) -> None:
        """Somebody releases a record to the patient, or reads a message."""
        if not self.model.rows:
            return
        identity = data.draw(st.sampled_from(sorted(self.model.rows)))
        row = self.model.rows[identity]
        kind = RECORDS[row["kind"]]
        for verb in VERBS[kind.name]:
            if graph:
                words = verb.split("_")
                field = words[0] + "".join(word.title() for word in words[1:]) + kind.title
                done = bool((self._ask(name, f'mutation {{ {field}(id: "{identity}") {{ id }} }}') or {}).get(field))
            else:
                answer = self._post(name, f"/v1/{kind.path}/{identity}/{verb.replace('_', '-')}", {})
                done = answer.status_code == 200
                assert done or answer.status_code in (401, 403, 404, 409, 422), answer.text
            condition = self._condition(kind.name, verb, name, row["patient"])
            assert not done or (condition is not None and self._holds(condition, name, row))
            if done and verb in ("publish", "activate"):
                row["published"] = True
            self._note_changes()

    @rule(name=st.sampled_from(PEOPLE))
    def cut_or_resume(self, name: str) -> None:
        """A connection breaks; later it is taken up again where it was."""
        if not self._active(name):
            return
        if name in self.listeners:
            self._leave(name)
        else:
            self._resume(name)

    # --- what everybody sees ----------------------------------------------------------------------------------------

    @invariant()
    def everybody_sees_what_the_model_says(self) -> None:
        """Lists over REST and GraphQL, versions, and what live queries were told."""
        if not self.listeners:
            return
        self._note_changes()
        turn = next(self.plans) % len(KINDS)
        some = next(iter(self.model.rows), None)
        for name in PEOPLE:
            client = self.clients[name]
            expected = self._visible(name)
            if not self._active(name):
                assert client.get("/v1/messages").status_code == 401
                told = client.post("/graphql", json={"query": _ASK}).json()
                assert told.get("data") is None and told["errors"], name
                continue
            found = self._ask(name, _ASK) or {}
            seen = {one["id"] for field in FIELDS.values() for one in found[field]["data"]}
            assert seen == expected, (name, seen ^ expected)
            kind = RECORDS[KINDS[turn]]
            listed = client.get(f"/v1/{kind.path}", params={"limit": 200, "fields": "id"}).json()["data"]
            mine = {one for one in expected if self.model.rows[one]["kind"] == kind.name}
            assert {one["id"] for one in listed} == mine, (name, kind.name)
            if some is not None:
                path = f"/v1/{RECORDS[self.model.rows[some]['kind']].path}/{some}/versions"
                assert client.get(path).status_code == (200 if some in expected else 404), (name, path)

    def _visible(self, name: str) -> set[str]:
        return {
            identity for identity, row in self.model.rows.items()
            if (condition := self._condition(row["kind"], "read", name, row["patient"])) is not None
            and self._holds(condition, name, row)
        }  # fmt: skip

    def _note_changes(self) -> None:
        """New changes are due to whoever may see them now; the hub has given them before anything else happens."""
        database = self.api.services.database
        records_changes.number(database)
        newest = records_changes.newest(database)
        last = self.changes[-1][0] if self.changes else self.before
        for one in records_changes.read(database, last, 1000):
            if one.id in self.model.rows:
                change = (one.position, one.id, one.verb, dict(self.model.rows[one.id]))
                self.changes.append(change)
                for name in self.listeners:
                    self._due(name, change)
        until = time.monotonic() + _PATIENCE_S
        while self.api.hub.position < newest:
            assert time.monotonic() < until, "changes are not given"
            time.sleep(0.005)

    def _due(self, name: str, change: tuple[int, str, str, dict[str, Any]]) -> None:
        position, identity, verb, row = change
        condition = self._condition(row["kind"], "read", name, row["patient"])
        if condition is not None and self._holds(condition, name, row):
            self.due[name].add((position, identity, verb))

    def _all_told(self) -> None:
        newest = records_changes.newest(self.api.services.database)
        until = time.monotonic() + _PATIENCE_S
        while any(one.reached < newest and not one.over for one in self.listeners.values()):
            assert time.monotonic() < until, "a live query does not come to the newest position"
            time.sleep(0.02)
        for name, listener in self.listeners.items():
            got = self.told[name] + listener.got
            assert len(got) == len(set(got)) and got == sorted(got), (name, got)
            assert set(got) == self.due[name], (name, set(got) ^ self.due[name])

    def _leave(self, name: str) -> None:
        """A live query ends: what it was told before that is what was due, but for what was on its way."""
        listener = self.listeners.pop(name, None)
        if listener is None:
            return
        self.cursors[name] = listener.cut()
        self.told[name] += listener.got
        assert set(self.told[name]) <= self.due[name], (name, set(self.told[name]) - self.due[name])
        self.due[name] = set(self.told[name])

    def _resume(self, name: str) -> None:
        self._note_changes()
        cursor = self.cursors.pop(name, None)
        for change in self.changes:
            if cursor is not None and change[0] > cursor:
                self._due(name, change)
        self._listen(name, cursor)

    def _listen(self, name: str, cursor: int | None) -> None:
        token = self.people[name].tokens["accessToken"]
        self.listeners[name] = Listener(self.api.url, token, name in DOCTORS, cursor)

    # --- by hand ----------------------------------------------------------------------------------------------------

    def _log_in(self, name: str) -> None:
        if name in self.clients:
            self.clients[name].close()
        with self.api.client() as client:
            log_in(client, self.people[name])
        self.clients[name] = httpx.Client(base_url=self.api.url, headers=self.people[name].headers, timeout=30)

    def _post(self, name: str, path: str, body: Any) -> httpx.Response:
        return self.clients[name].post(path, json=body)

    def _do(self, name: str, path: str, body: Any, status: int) -> httpx.Response:
        answer = self._post(name, path, body)
        assert answer.status_code == status, answer.text
        return answer

    def _ask(self, name: str, query: str, variables: Any = None) -> dict[str, Any] | None:
        answer = self._post(name, "/graphql", {"query": query, "variables": variables or {}})
        assert answer.status_code in (200, 401), answer.text
        found: dict[str, Any] | None = answer.json().get("data")
        return found

    def _active(self, name: str) -> bool:
        return self.people[name].user not in self.model.disabled

    def _condition(self, kind: str, verb: str, name: str, who: str) -> Condition | None:
        if not self._active(name):
            return None
        if name in DOCTORS:
            return condition_of(kind, verb, Role.CLINICIAN, self.model.relation(name, who))
        return condition_of(kind, verb, Role.PATIENT, Relation.OWN if name == who else Relation.STRANGER)

    def _holds(self, condition: Condition, name: str, row: dict[str, Any]) -> bool:
        mine = row["from"] == name
        addressed = row["side"] == ("care" if name in DOCTORS else "patient")
        return {
            Condition.NONE: True, Condition.PUBLISHED: row["published"], Condition.AUTHOR: mine,
            Condition.PARTY: mine or addressed, Condition.RECIPIENT: addressed and not mine,
        }[condition]  # fmt: skip


@pytest.fixture
def machine(api: Api) -> type[Leaks]:
    """The machine over this API."""
    return type("Leaks", (Leaks,), {"api": api})


def test_nothing_leaks_over_http(machine: type[Leaks]) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis has no types for it
        machine, settings=hypothesis_settings(max_examples=2, stateful_step_count=12, deadline=None)
    )
