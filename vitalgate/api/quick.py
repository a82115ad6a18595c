"""The reads that a page makes all the time, answered before the router: latest readings, aggregates, waveforms.

The same functions answer as behind the routes, with the same access and audit; only the way to them is shorter. What is
not plainly such a request (a parameter that is missing, odd or given twice, another method) goes the usual way, which
says what is wrong with it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vitalgate.api import readings_answers as answers
from vitalgate.api.edge import HEADERS, REQUEST_ID
from vitalgate.api.entry import Entry
from vitalgate.api.problems import Problem, answer, of_record, unavailable
from vitalgate.records.errors import RecordError
from vitalgate.storage.errors import TransientDatabaseError

_PATH: Final = re.compile(r"/v1/patients/([^/\x00]{1,64})/(readings/latest|readings/aggregates|waveforms)")
#: By the end of the path: parameters there must be, and those there may be, each with its form.
_TEXT: Final = re.compile(r"[^\x00]{1,64}")
_TIME: Final = re.compile(r"[0-9T:.Zz+ -]{10,40}")
_KIND: Final = re.compile(r"json|cbor|arrow")
_SPAN: Final = {"from": _TIME, "to": _TIME}
_ASKED: Final[dict[str, tuple[dict[str, re.Pattern[str]], dict[str, re.Pattern[str]]]]] = {
    "readings/latest": ({}, {}),
    "readings/aggregates": ({"metric": _TEXT, **_SPAN}, {"width": re.compile(r"minute|hour|day"), "format": _KIND}),
    "waveforms": ({"channel": _TEXT, **_SPAN}, {"device": _TEXT, "format": _KIND}),
}
_ROUTES: Final = {name: SimpleNamespace(path=f"/v1/patients/{{patient}}/{name}") for name in _ASKED}


class Quick:
    """ASGI middleware before the router.

    Parameters
    ----------
    state
        The application's: its services.
    threads
        Requests worked on at once; as many as there are connections to the database.
    """

    def __init__(self, app: ASGIApp, state: Any, threads: int) -> None:
        self._app = app
        self._state = state
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="quick")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass it on."""
        if scope["type"] == "http" and scope["method"] == "GET":
            found = self._asked(scope)
            if found is not None:
                name, work = found
                response = await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, work, scope)
                scope["route"] = _ROUTES[name]
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _answer(self, work: Callable[[], Response], scope: Scope) -> Response:
        try:
            return work()
        except Problem as problem:
            return answer(problem, scope[REQUEST_ID])
        except RecordError as error:
            return answer(of_record(error), scope[REQUEST_ID])
        except TransientDatabaseError:
            return answer(unavailable(), scope[REQUEST_ID])

    def _asked(self, scope: Scope) -> tuple[str, Callable[[], Response]] | None:
        match = _PATH.fullmatch(scope["path"])
        if match is None:
            return None
        patient, name = match.groups()
        given = _parameters(scope["query_string"], *_ASKED[name])
        headers = dict(reversed(scope["headers"]))  # of several of a name the first counts
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if given is None or scheme.lower() != "bearer" or not token:
            return None
        place = scope["client"][0] if scope.get("client") else "unknown"
        role = headers.get(b"x-role", b"").decode("latin-1")
        caller = Entry(self._state.services, token, role, place, "rest", scope[HEADERS])
        if name == "readings/latest":
            return name, lambda: answers.latest(caller, patient)
        accept = headers.get(b"accept", b"").decode("latin-1") or None
        form, start, stop = given.get("format", ""), given["from"], given["to"]
        if name == "readings/aggregates":
            width = given.get("width", "minute")
            return name, lambda: answers.aggregates(caller, patient, given["metric"], start, stop, width, accept, form)
        device = given.get("device", "")
        return name, lambda: answers.waveforms(caller, patient, given["channel"], start, stop, device, accept, form)


def _parameters(
    query: bytes, must: dict[str, re.Pattern[str]], may: dict[str, re.Pattern[str]]
) -> dict[str, str] | None:
    """The parameters by name, when they are plainly right."""
    if not query:
        return None if must else {}
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    given = dict(pairs)
    known = must | may
    if len(given) != len(pairs) or not must.keys() <= given.keys() or not given.keys() <= known.keys():
        return None
    if not all(known[name].fullmatch(value) for name, value in given.items()):
        return None
    return given
