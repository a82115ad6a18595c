"""Live queries by clients that we did not write: nothing lost, nothing twice, through kills; access ends at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import websockets
from fastapi import FastAPI

from tests.api.conftest import Api, Running
from tests.api.people import begin_care, end_care
from vitalgate.api.app import make_app, make_services
from vitalgate.config.settings import Settings
from vitalgate.pki.keyring import KeyRing

#: A thousand: `python -m benchmarks live`.
SUBSCRIBERS = int(os.environ.get("TEST_API_SUBSCRIBERS", "20"))
EVENTS = 2 * SUBSCRIBERS


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
    """(event, id, data) of server-sent events, as the specification reads them."""
    name, identity, data = "", "", ""
    async for line in lines:
        if not line:
            if data:
                yield name, identity, json.loads(data)
            name, data = "", ""
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("id:"):
            identity = line[3:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()


def _send(api: Api, name: str, body: str, patient: str = "p-anna") -> str:
    with api.client(name) as client:
        answer = client.post("/v1/messages", json={"patient": patient, "body": body})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_server_sent_events_resume_where_they_ended(api: Api) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url=api.url, headers=api.people["anna"].headers, timeout=30) as client:
            got: list[tuple[str, str]] = []
            async with client.stream("GET", "/v1/live", params={"record": "Message"}) as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                events = _events(stream.aiter_lines())
                assert (await anext(events))[0] == "ready"
                sent = [await asyncio.to_thread(_send, api, "carla", f"n{n}") for n in range(2)]
                async for name, identity, data in events:
                    assert name == "change" and data["verb"] == "create" and "body" not in data
                    got.append((identity, data["id"]))
                    if len(got) == 2:
                        break
            sent += [await asyncio.to_thread(_send, api, "carla", f"m{n}") for n in range(3)]
            headers = {"last-event-id": got[-1][0]}
            async with client.stream("GET", "/v1/live", params={"record": "message"}, headers=headers) as stream:
                async for name, identity, data in _events(stream.aiter_lines()):
                    if name == "change":
                        got.append((identity, data["id"]))
                        if len(got) == 5:
                            break
            assert [one for _, one in got] == sent
            old = await client.get("/v1/live", params={"after": 2**61})
            assert old.status_code == 410 and old.json()["type"].endswith("cursor-gone")

    asyncio.run(asyncio.wait_for(run(), 60))


def test_access_ends_and_begins_at_once(api: Api) -> None:
    async def run() -> None:
        url = api.url.replace("http", "ws") + "/v1/live/socket"
        dora = api.people["dora"]
        await asyncio.to_thread(begin_care, api.services.database, dora, "p-bert")
        async with websockets.connect(url) as ws:
            token = dora.tokens["accessToken"]
            await ws.send(json.dumps({"type": "subscribe", "token": token, "record": ["message"], "patient": "p-bert"}))
            assert json.loads(await ws.recv())["type"] == "ready"
            first = await asyncio.to_thread(_send, api, "bert", "to my team", "p-bert")
            assert (await _next(ws))["id"] == first
            await asyncio.to_thread(end_care, api.services.database, dora, "p-bert")
            await asyncio.to_thread(_send, api, "bert", "not for dora", "p-bert")
            await asyncio.to_thread(begin_care, api.services.database, dora, "p-bert")
            last = await asyncio.to_thread(_send, api, "bert", "for dora again", "p-bert")
            got = [(await _next(ws))["id"]]
            while got[-1] != last:
                got.append((await _next(ws))["id"])
            # The one in between may be told when it is judged after access came back, never before.
            assert first not in got
            await asyncio.to_thread(end_care, api.services.database, dora, "p-bert")
            await asyncio.to_thread(_send, api, "bert", "secret", "p-bert")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_next(ws), 2)

    asyncio.run(asyncio.wait_for(run(), 60))


async def _next(ws: Any) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = json.loads(await ws.recv())
        if found["type"] == "change":
            return found


def test_logging_out_ends_a_live_query(api: Api) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
            body = {"email": api.people["anna"].email, "password": "wheel-otter-lantern-42"}
            tokens = (await client.post("/v1/auth/log-in", json=body)).json()
            headers = {"authorization": f"Bearer {tokens['accessToken']}"}
            async with client.stream("GET", "/v1/live", headers=headers) as stream:
                events = _events(stream.aiter_lines())
                await anext(events)
                await client.post("/v1/auth/log-out", headers=headers)
                name, _, data = await asyncio.wait_for(anext(events), 10)
                assert (name, data["why"]) == ("ended", "logged out")

    asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize(
    ("first", "code"),
    [("{", 4400), ('{"type": "subscribe", "token": "no"}', 4401), ('{"type": "subscribe"}', 4401),
     ('{"type": "subscribe", "colour": 1}', 4400)],
)  # fmt: skip
def test_a_socket_without_a_good_first_message_is_closed(api: Api, first: str, code: int) -> None:
    async def run() -> int:
        async with websockets.connect(api.url.replace("http", "ws") + "/v1/live/socket") as ws:
            await ws.send(first)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await asyncio.wait_for(ws.recv(), 20)
            assert closed.value.rcvd is not None
            return closed.value.rcvd.code

    assert asyncio.run(run()) == code


class _Two:
    """Two API processes' worth of servers, either of which may be killed and started again."""

    def __init__(self, settings: Settings, ring: KeyRing) -> None:
        self._settings, self._ring = settings, ring
        self.running: list[Running] = []
        self.apps: list[FastAPI] = []
        for _ in range(2):
            self.start()

    def start(self) -> None:
        services = make_services(self._settings, self._ring)
        app = make_app(services)
        self.apps.append(app)
        self.running.append(Running(app, lambda: app.state.hub.stop()).__enter__())

    def restart(self, index: int) -> None:
        self.running[index].__exit__()
        app = self.apps[index]
        app.state.services = make_services(self._settings, self._ring)
        self.running[index] = Running(app, lambda: app.state.hub.stop()).__enter__()

    def url(self) -> str:
        return f"http://127.0.0.1:{random.choice(self.running).port}"

    def stop(self) -> None:
        for one in self.running:
            one.__exit__()


@pytest.fixture(scope="module")
def two(api_settings: Settings, ring: KeyRing, api: Api) -> Iterator[_Two]:
    """Two servers over the same database."""
    made = _Two(api_settings, ring)
    yield made
    made.stop()


def test_every_subscriber_gets_every_event_once_through_kills_and_cuts(api: Api, two: _Two) -> None:
    """A short form of the benchmark with a thousand: servers end, clients are cut at random, and resume."""
    tokens = {name: api.people[name].headers for name in ("anna", "carla", "bert")}
    got: list[list[tuple[int, str]]] = [[] for _ in range(SUBSCRIBERS)]
    trail: list[list[str]] = [[] for _ in range(SUBSCRIBERS)]
    names = ["anna" if n % 3 == 0 else "carla" if n % 3 == 1 else "bert" for n in range(SUBSCRIBERS)]
    done = asyncio.Event()
    ready = Counter[int]()

    async def subscriber(number: int, client: httpx.AsyncClient) -> None:
        cursor: str | None = None
        while not done.is_set():
            headers = dict(tokens[names[number]])
            if cursor:
                headers["last-event-id"] = cursor
            trail[number].append(f"from {cursor}")
            cut = asyncio.get_running_loop().time() + random.uniform(0.5, 4)
            with contextlib.suppress(httpx.HTTPError, TimeoutError):
                async with client.stream(
                    "GET", f"{two.url()}/v1/live", params={"record": "message"}, headers=headers
                ) as stream:
                    if stream.status_code != 200:
                        await asyncio.sleep(0.1)
                        continue
                    async for name, identity, data in _events(stream.aiter_lines()):
                        cursor = identity or cursor
                        ready[number] += 1
                        if name == "change":
                            got[number].append((int(identity), data["id"]))
                        trail[number].append(f"{name} {identity}")
                        if name == "ended" or done.is_set() or asyncio.get_running_loop().time() > cut:
                            break

    async def run() -> list[str]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=httpx.Timeout(10, read=3), limits=limits) as client:
            tasks = [asyncio.create_task(subscriber(n, client)) for n in range(SUBSCRIBERS)]
            until = time.monotonic() + 30
            while len(ready) < SUBSCRIBERS and time.monotonic() < until:
                await asyncio.sleep(0.05)
            sent = []
            for n in range(EVENTS):
                sent.append(await asyncio.to_thread(_send, api, "carla" if n % 2 else "anna", f"event {n}"))
                if n in (EVENTS // 3, 2 * EVENTS // 3):
                    await asyncio.to_thread(two.restart, n % 2)
            until = time.monotonic() + 30
            expected = [n for n in range(SUBSCRIBERS) if names[n] != "bert"]
            while time.monotonic() < until and any(len(got[n]) < EVENTS for n in expected):
                await asyncio.sleep(0.1)
            done.set()
            await asyncio.wait(tasks, timeout=15)
            for task in tasks:
                task.cancel()
            return sent

    sent = asyncio.run(run())
    for number, events in enumerate(got):
        if names[number] == "bert":
            assert events == []
        else:
            assert events == sorted(set(events)), f"subscriber {number}: {' '.join(trail[number])}"
            assert [identity for _, identity in events] == sent, f"subscriber {number}: {' '.join(trail[number])}"


def test_notifications_are_told_live_and_without_detail(api: Api) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url=api.url, headers=api.people["anna"].headers, timeout=30) as client:
            async with client.stream("GET", "/v1/notifications/live") as stream:
                events = _events(stream.aiter_lines())
                assert (await anext(events))[0] == "ready"
                await asyncio.to_thread(_send, api, "anna", "mine")  # one's own is no news
                sent = await asyncio.to_thread(_send, api, "carla", "secret words")
                name, _, data = await anext(events)
                assert (name, data["kind"], data["recordId"]) == ("notification", "new-message", sent)
                assert "secret" not in json.dumps(data)
            listed = (await client.get("/v1/notifications", params={"unread": True})).json()["data"]
            assert listed[0]["recordId"] == sent
            assert (await client.post(f"/v1/notifications/{listed[0]['id']}/read")).status_code == 204
            left = (await client.get("/v1/notifications", params={"unread": True})).json()["data"]
            assert sent not in {one["recordId"] for one in left}

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_cursor_that_is_ahead_of_a_process_is_not_told_anew(
    api: Api, two: _Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process has given an event that another has not seen yet; the client comes to the other."""
    from vitalgate.storage import records_changes

    async def run() -> None:
        slow = two.apps[0].state.hub
        read = records_changes.read
        held = asyncio.Event()
        loop = asyncio.get_running_loop()

        def late(db: Any, after: int, limit: int = 1000) -> Any:
            if db is two.apps[0].state.services.database and not held.is_set():
                return []
            return read(db, after, limit)

        monkeypatch.setattr(records_changes, "read", late)
        headers = api.people["anna"].headers
        async with httpx.AsyncClient(headers=headers, timeout=30) as client:
            behind = f"http://127.0.0.1:{two.running[0].port}/v1/live"
            ahead = f"http://127.0.0.1:{two.running[1].port}/v1/live"
            async with client.stream("GET", behind, params={"record": "message"}) as first:
                kept = _events(first.aiter_lines())  # kept, or the stream is closed with it
                assert (await anext(kept))[0] == "ready"
                taken = slow.position
                async with client.stream("GET", ahead, params={"record": "message"}) as stream:
                    events = _events(stream.aiter_lines())
                    assert (await anext(events))[0] == "ready"
                    await asyncio.to_thread(_send, api, "carla", "once")
                    _, cursor, _ = await anext(events)
                assert slow.position == taken < int(cursor)
                async with client.stream("GET", behind, params={"record": "message", "after": cursor}) as stream:
                    events = _events(stream.aiter_lines())
                    assert (await anext(events))[:2] == ("ready", cursor)
                    loop.call_soon(held.set)
                    last = await asyncio.to_thread(_send, api, "carla", "next")
                    _, _, data = await anext(events)
                    assert data["id"] == last

    asyncio.run(asyncio.wait_for(run(), 90))
