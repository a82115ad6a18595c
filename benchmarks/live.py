"""Live queries: a thousand connections of several users, half over server-sent events and half over websockets; clients
cut at random and the API killed; who got what, how often, how soon, and whether anybody got what is not theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from benchmarks import load
from benchmarks.api import _account, _log_in
from benchmarks.bed import Bed, BenchError

SUBSCRIBERS, EVENTS = 1000, 60
#: Whose the subscribers are: most listen for the first patient, the rest for another, who may not see the same.
_SHARES = (0.75, 0.25)
AIM_P99_MS = 250.0
_PATIENCE_S = 90.0
#: Clients that are cut each second, as a share; the API is killed once, in the middle of the second half.
_CUT = 0.02


def run(bed: Bed, seconds: float, scale: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """The section."""
    _, wearers = load.cast("v", 0, len(_SHARES))
    bed.enrol(wearers)
    users = [_User(wearer.patient, _log_in(bed, _account(bed, wearer.patient))) for wearer in wearers]
    return asyncio.run(_Watch(bed, users, max(10, int(SUBSCRIBERS * scale))).run(seconds, tell))


def text(found: dict[str, Any]) -> list[str]:
    """For a person."""
    return [
        f"{found['subscribers']} subscribers ({found['sockets']} over websockets) of {found['users']} users, "
        f"{found['events']} events, {found['cuts']} cuts, the API killed once: {found['delivered']} of "
        f"{found['expected']} delivered, {found['twice']} twice, {found['out_of_order']} out of order, "
        f"{found['leaked']} to somebody else",
        f"publish to delivery without kills: p50 {found['p50_ms']:.0f} ms, p99 {found['p99_ms']:.0f} ms "
        f"(aim {AIM_P99_MS:.0f})",
    ]


@dataclass(frozen=True)
class _User:
    patient: str
    token: str


class _Watch:
    def __init__(self, bed: Bed, users: list[_User], subscribers: int) -> None:
        self._bed, self._users, self._count = bed, users, subscribers
        bounds = [round(subscribers * sum(_SHARES[: n + 1])) for n in range(len(_SHARES))]
        self._whose = [next(place for place, stop in enumerate(bounds) if n < stop) for n in range(subscribers)]
        self._got: list[list[tuple[int, str]]] = [[] for _ in range(subscribers)]
        self._cursors: list[int | None] = [None] * subscribers
        self._transports: list[Any] = [None] * subscribers
        self._sent: list[dict[str, float]] = [{} for _ in users]
        """By user: when each event of theirs was published."""
        self._late: list[float] = []
        self._timed = True
        self._done = False
        self._cuts = 0

    async def run(self, seconds: float, tell: Callable[[str], None]) -> dict[str, Any]:
        """Subscribe, publish, cut, kill, count."""
        tell(f"{self._count} subscribers")
        tasks = [asyncio.create_task(self._subscriber(n)) for n in range(self._count)]
        until = time.monotonic() + _PATIENCE_S
        while any(cursor is None for cursor in self._cursors):
            if time.monotonic() > until:
                raise BenchError("not all subscribers came to be")
            await asyncio.sleep(0.1)
        api = self._bed.settings.api
        pause = seconds / (2 * EVENTS)
        async with httpx.AsyncClient(base_url=f"http://{api.host}:{api.port}", timeout=30) as client:
            tell("publishing")
            for n in range(EVENTS // 2):
                await self._publish(client, n)
                await asyncio.sleep(pause)
            await self._settle()
            self._timed = False
            tell("publishing, cutting and killing")
            cutting = asyncio.create_task(self._cut())
            for n in range(EVENTS // 2, EVENTS):
                if n == EVENTS * 3 // 4:
                    self._kill()
                await self._publish(client, n)
                await asyncio.sleep(pause)
            cutting.cancel()
        await self._settle()
        self._done = True
        for transport in self._transports:
            if transport is not None:
                transport.abort()
        await asyncio.wait(tasks, timeout=10)
        return self._document()

    def _document(self) -> dict[str, Any]:
        late = sorted(self._late)
        theirs = [set(sent) for sent in self._sent]
        expected = sum(len(theirs[whose]) for whose in self._whose)
        got = [({one for _, one in heard}, theirs[whose]) for heard, whose in zip(self._got, self._whose, strict=True)]
        delivered = sum(len(heard & own) for heard, own in got)
        leaked = sum(len(heard - own) for heard, own in got)
        twice = sum(len(heard) - len(set(heard)) for heard in self._got)
        return {
            "subscribers": self._count, "sockets": sum(map(_by_socket, range(self._count))), "users": len(self._users),
            "events": sum(map(len, self._sent)), "cuts": self._cuts, "expected": expected, "delivered": delivered,
            "twice": twice, "leaked": leaked, "out_of_order": sum(heard != sorted(heard) for heard in self._got),
            "p50_ms": 1000 * late[len(late) // 2] if late else 0.0,
            "p99_ms": 1000 * late[int(len(late) * 0.99)] if late else 0.0,
            "balanced": delivered == expected and not leaked and not twice,
        }  # fmt: skip

    async def _publish(self, client: httpx.AsyncClient, n: int) -> None:
        whose = n % len(self._users)
        user = self._users[whose]
        headers = {"authorization": f"Bearer {user.token}", "idempotency-key": f"live-{n}-{id(self)}"}
        body = {"patient": user.patient, "body": f"event {n}"}
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            began = time.time()
            with contextlib.suppress(httpx.HTTPError):
                answer = await client.post("/v1/messages", json=body, headers=headers)
                if answer.status_code == 201:
                    self._sent[whose][answer.json()["id"]] = began
                    return
            await asyncio.sleep(0.2)
        raise BenchError("a message could not be published")

    async def _settle(self) -> None:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until and any(
            len(got) < len(self._sent[whose]) for got, whose in zip(self._got, self._whose, strict=True)
        ):
            await asyncio.sleep(0.1)

    async def _cut(self) -> None:
        while True:
            for number in random.sample(range(self._count), max(1, int(self._count * _CUT))):
                if self._transports[number] is not None:
                    self._transports[number].abort()
                    self._cuts += 1
            await asyncio.sleep(1)

    def _kill(self) -> None:
        (pid,) = (one["pid"] for one in self._bed.stack.status()["processes"] if one["name"] == "api")
        os.kill(int(pid), signal.SIGKILL)

    async def _subscriber(self, number: int) -> None:
        while not self._done:
            with contextlib.suppress(
                OSError, asyncio.IncompleteReadError, ValueError, TimeoutError, WebSocketException
            ):
                await (self._over_socket(number) if _by_socket(number) else self._over_events(number))
            await asyncio.sleep(random.uniform(0.05, 0.5))  # noqa: S311  no secret

    async def _over_events(self, number: int) -> None:
        api = self._bed.settings.api
        reader, writer = await asyncio.open_connection(api.host, api.port)
        self._transports[number] = writer.transport
        cursor = self._cursors[number]
        resume = f"last-event-id: {cursor}\r\n" if cursor is not None else ""
        writer.write(
            f"GET /v1/live?record=message HTTP/1.1\r\nhost: {api.host}\r\n"
            f"authorization: Bearer {self._users[self._whose[number]].token}\r\n{resume}\r\n".encode()
        )
        identity = 0
        while line := await reader.readline():
            if line.startswith(b"id:"):
                identity = int(line[3:])
            elif line.startswith(b"data:"):
                self._take(number, identity, orjson.loads(line[5:]))

    async def _over_socket(self, number: int) -> None:
        api = self._bed.settings.api
        url = f"ws://{api.host}:{api.port}/v1/live/socket"
        # A closing handshake with a server that was killed would only wait.
        async with connect(url, compression=None, open_timeout=30, close_timeout=0.1, ping_interval=None) as ws:
            self._transports[number] = ws.transport
            first = {"type": "subscribe", "token": self._users[self._whose[number]].token, "record": ["message"]}
            if self._cursors[number] is not None:
                first["after"] = self._cursors[number]
            await ws.send(orjson.dumps(first).decode())
            async for text in ws:
                data = orjson.loads(text)
                if "position" in data:
                    self._take(number, data["position"], data)

    def _take(self, number: int, position: int, data: dict[str, Any]) -> None:
        self._cursors[number] = position
        if "verb" in data:
            self._got[number].append((position, data["id"]))
            if self._timed:
                asyncio.get_running_loop().call_later(1.0, self._note, number, data["id"], time.time())

    def _note(self, number: int, message: str, at: float) -> None:
        sent = self._sent[self._whose[number]]
        if message in sent:
            self._late.append(at - sent[message])


def _by_socket(number: int) -> bool:
    return number % 2 == 1
