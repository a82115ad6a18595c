"""Live queries: a thousand subscribers, clients cut at random and the API killed; who got what, how often, how soon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import orjson

from benchmarks import load
from benchmarks.api import _account, _log_in
from benchmarks.bed import Bed, BenchError

SUBSCRIBERS, EVENTS = 1000, 60
AIM_P99_MS = 250.0
_PATIENCE_S = 90.0
#: Clients that are cut each second, as a share; the API is killed once, in the middle of the second half.
_CUT = 0.02


def run(bed: Bed, seconds: float, scale: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """The section."""
    _, wearers = load.cast("l", 0, 1)
    bed.enrol(wearers)
    patient = wearers[0].patient
    token = _log_in(bed, _account(bed, patient))
    return asyncio.run(_Watch(bed, token, patient, max(10, int(SUBSCRIBERS * scale))).run(seconds, tell))


def text(found: dict[str, Any]) -> list[str]:
    """For a person."""
    return [
        f"{found['subscribers']} subscribers, {found['events']} events, {found['cuts']} cuts, the API killed once: "
        f"{found['delivered']} of {found['expected']} delivered, {found['twice']} twice, {found['out_of_order']} out "
        "of order",
        f"publish to delivery without kills: p50 {found['p50_ms']:.0f} ms, p99 {found['p99_ms']:.0f} ms "
        f"(aim {AIM_P99_MS:.0f})",
    ]


class _Watch:
    def __init__(self, bed: Bed, token: str, patient: str, subscribers: int) -> None:
        self._bed, self._patient, self._count = bed, patient, subscribers
        self._headers = {"authorization": f"Bearer {token}"}
        self._got: list[list[tuple[int, str]]] = [[] for _ in range(subscribers)]
        self._cursors: list[int | None] = [None] * subscribers
        self._writers: list[asyncio.StreamWriter | None] = [None] * subscribers
        self._sent: dict[str, float] = {}
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
        for writer in self._writers:
            if writer is not None:
                writer.close()
        await asyncio.wait(tasks, timeout=10)
        return self._document()

    def _document(self) -> dict[str, Any]:
        late = sorted(self._late)
        expected = self._count * len(self._sent)
        unique = sum(len({one for _, one in got} & set(self._sent)) for got in self._got)
        return {
            "subscribers": self._count, "events": len(self._sent), "cuts": self._cuts, "expected": expected,
            "delivered": unique, "twice": sum(len(got) - len(set(got)) for got in self._got),
            "out_of_order": sum(got != sorted(got) for got in self._got),
            "p50_ms": 1000 * late[len(late) // 2] if late else 0.0,
            "p99_ms": 1000 * late[int(len(late) * 0.99)] if late else 0.0,
            "balanced": unique == expected and all(len(got) == len(set(got)) for got in self._got),
        }  # fmt: skip

    async def _publish(self, client: httpx.AsyncClient, n: int) -> None:
        key = {"idempotency-key": f"live-{n}-{id(self)}"}
        body = {"patient": self._patient, "body": f"event {n}"}
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            began = time.time()
            with contextlib.suppress(httpx.HTTPError):
                answer = await client.post("/v1/messages", json=body, headers={**self._headers, **key})
                if answer.status_code == 201:
                    self._sent[answer.json()["id"]] = began
                    return
            await asyncio.sleep(0.2)
        raise BenchError("a message could not be published")

    async def _settle(self) -> None:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until and any(len(got) < len(self._sent) for got in self._got):
            await asyncio.sleep(0.1)

    async def _cut(self) -> None:
        while True:
            for number in random.sample(range(self._count), max(1, int(self._count * _CUT))):
                writer = self._writers[number]
                if writer is not None:
                    writer.transport.abort()
                    self._cuts += 1
            await asyncio.sleep(1)

    def _kill(self) -> None:
        (pid,) = (one["pid"] for one in self._bed.stack.status()["processes"] if one["name"] == "api")
        os.kill(int(pid), signal.SIGKILL)

    async def _subscriber(self, number: int) -> None:
        api = self._bed.settings.api
        while not self._done:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
                reader, writer = await asyncio.open_connection(api.host, api.port)
                self._writers[number] = writer
                cursor = self._cursors[number]
                resume = f"last-event-id: {cursor}\r\n" if cursor is not None else ""
                writer.write(
                    f"GET /v1/live?record=message HTTP/1.1\r\nhost: {api.host}\r\n"
                    f"authorization: {self._headers['authorization']}\r\n{resume}\r\n".encode()
                )
                await self._read(number, reader)
            await asyncio.sleep(random.uniform(0.05, 0.5))  # noqa: S311  no secret

    async def _read(self, number: int, reader: asyncio.StreamReader) -> None:
        identity = 0
        while line := await reader.readline():
            if line.startswith(b"id:"):
                identity = int(line[3:])
            elif line.startswith(b"data:"):
                self._cursors[number] = identity
                data = orjson.loads(line[5:])
                if "verb" in data:
                    self._got[number].append((identity, data["id"]))
                    if self._timed:
                        asyncio.get_running_loop().call_later(1.0, self._note, data["id"], time.time())

    def _note(self, message: str, at: float) -> None:
        if message in self._sent:
            self._late.append(at - self._sent[message])
