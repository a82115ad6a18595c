"""The GraphQL schema: the same records, verbs and live queries as over REST, made from the same declarations."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import Any

import strawberry
from graphql import GraphQLError
from starlette.concurrency import run_in_threadpool
from strawberry.extensions import MaxAliasesLimiter, MaxTokensLimiter
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig
from strawberry.tools import create_type
from strawberry.types import ExecutionContext

from vitalgate.api.graphql_context import Asking
from vitalgate.api.graphql_limits import NESTED, PAGE, Limits
from vitalgate.api.graphql_types import (
    PARENT,
    filter_input,
    filters,
    given,
    list_of,
    object_fields,
    resolve,
    verb_input,
)
from vitalgate.api.hub import Hub
from vitalgate.api.live_routes import event, wanted
from vitalgate.api.problems import Problem, of_record, unavailable
from vitalgate.api.questions import MOST
from vitalgate.api.subscribers import CursorGone, Ended
from vitalgate.config.settings import ApiSettings
from vitalgate.records.catalogue import RECORDS
from vitalgate.records.errors import RecordError
from vitalgate.records.record_type import RecordType, Transition
from vitalgate.storage import records_accounts, records_care, records_read, records_readings, records_write
from vitalgate.storage.errors import TransientDatabaseError

log = logging.getLogger(__name__)
Info = strawberry.Info[Any, None]


def _asking(info: Info) -> Asking:
    found: Asking = info.context["asking"]
    return found


def _first(first: int, most: int = MOST) -> int:
    if not 1 <= first <= most:
        raise Problem(400, "bad-parameter", f"first is {first}; it must be from 1 to {most}.")
    return first


def _camel(kind: RecordType) -> str:
    title = kind.title
    head = len(title) - len(title.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    return title[: max(1, head - 1)].lower() + title[max(1, head - 1) :]


def _plural(name: str) -> str:
    return name if name in ("deviceData", "auditLog", "careTeam", "breakGlass") else f"{name}s"


class _Builder:
    """Makes the types, then the three roots."""

    def __init__(self, hub: Callable[[], Hub]) -> None:
        self._hub = hub
        self.types: dict[str, Any] = {}
        self.pages: dict[str, Any] = {}
        owned = [kind for kind in RECORDS.values() if "patient" in kind.filters and kind.name != "audit_log"]
        for kind in RECORDS.values():
            if kind.name != "patient_profile":
                self._object(kind, [self._profile()] if kind in owned else [])
        self._object(RECORDS["patient_profile"], [self._nested(kind) for kind in owned])

    def _object(self, kind: RecordType, further: list[Any]) -> None:
        made = create_type(kind.title, [*object_fields(kind), *further], description=kind.meaning)
        self.types[kind.name] = made
        rows = strawberry.field(name="data", graphql_type=list_of(made))
        rows.python_name = "records"
        following = strawberry.field(name="next", graphql_type=str | None, description="Cursor: goes into `after`.")
        following.python_name = "next"
        self.pages[kind.name] = create_type(f"{kind.title}Page", [rows, following])

    def _profile(self) -> Any:
        kind = RECORDS["patient_profile"]

        async def profile(root: Any, info: Any) -> Any:
            patient = resolve(root, "patient")
            return await _asking(info).by_id(kind).load(patient) if patient else None

        # The type is made last, and looked up when the schema is put together.
        lazy: Any = strawberry.LazyType("PatientProfile", __name__)
        profile.__annotations__ = {"root": PARENT, "info": Info, "return": lazy | None}
        return strawberry.field(resolver=profile, name="patientProfile", description="Who the patient is.")

    def _nested(self, kind: RecordType) -> Any:
        async def records(root: Any, info: Any, first: int = NESTED) -> Any:
            patient = resolve(root, "id")
            return await _asking(info).by_patient(kind, _first(first)).load(patient)

        made = self.types[kind.name]
        records.__annotations__ = {
            "root": PARENT, "info": Info, "first": int, "return": list_of(made)
        }  # fmt: skip
        name = _plural(_camel(kind))
        field: Any = strawberry.field(resolver=records, name=name, description=f"Newest first. {kind.meaning}")
        field.python_name = f"nested_{kind.name}"
        return field

    # --- roots ------------------------------------------------------------------------------------------------------

    def query(self) -> type:
        """Reading."""
        fields = []
        for kind in RECORDS.values():
            fields += [self._one(kind), self._list(kind)]
        return create_type("Query", [*fields, *_query_fields(self.types["user"])], description="What can be read.")

    def _one(self, kind: RecordType) -> Any:
        async def one(info: Any, id: Any) -> Any:
            _no_zero(id)
            return await _asking(info).do(lambda tx: records_read.get(tx, kind, str(id)))

        one.__annotations__ = {"info": Info, "id": strawberry.ID, "return": self.types[kind.name] | None}
        return _field(one, _camel(kind) if kind.name not in _SAME else f"{_camel(kind)}Entry", kind.meaning)

    def _list(self, kind: RecordType) -> Any:
        taken = filter_input(kind)

        async def many(
            info: Any, filter: Any = None, sort: Any = "", first: Any = PAGE, after: Any = "", withdrawn: Any = False
        ) -> Any:  # fmt: skip
            asked = records_read.Query(
                filters=filters(filter), sort=sort or "", limit=_first(first), after=after or "", withdrawn=withdrawn
            )  # fmt: skip
            _no_zero(asked.filters, asked.sort, asked.after)
            return await _asking(info).do(lambda tx: records_read.find(tx, kind, asked))

        many.__annotations__ = {
            "info": Info, "filter": taken | None if taken else JSON | None, "sort": str | None, "first": int,
            "after": str | None, "withdrawn": bool, "return": self.pages[kind.name],
        }  # fmt: skip
        return _field(many, _plural(_camel(kind)), kind.meaning)

    def mutation(self) -> type:
        """Changing."""
        fields = [
            self._verb(kind, verb) for kind in RECORDS.values() for verb in kind.transitions.values()
        ]  # fmt: skip
        return create_type("Mutation", fields, description="What can be done; a verb of a record each.")

    def _verb(self, kind: RecordType, verb: Transition) -> Any:
        taken = verb_input(kind, verb.verb)
        returned = self.types[kind.name]

        async def create(info: Any, input: Any) -> Any:
            values = given(input)
            _no_zero(values)
            return await _asking(info).do(lambda tx: records_write.create(tx, kind, values, verb=verb.verb))

        async def change(info: Any, id: Any, input: Any = None, version: Any = None) -> Any:
            values = given(input)
            _no_zero(id, values)
            return await _asking(info).do(
                lambda tx: records_write.transition(tx, kind, str(id), verb.verb, values, version=version)
            )

        async def change_bare(info: Any, id: Any, version: Any = None) -> Any:
            return await change(info, id, None, version)

        chosen: Callable[..., Any]
        if verb.creates:
            chosen = create
            create.__annotations__ = {"info": Info, "input": taken, "return": returned}
        elif taken is not None:
            chosen = change
            change.__annotations__ = {
                "info": Info, "id": strawberry.ID, "input": taken | None, "version": int | None, "return": returned
            }  # fmt: skip
        else:
            chosen = change_bare
            change_bare.__annotations__ = {
                "info": Info, "id": strawberry.ID, "version": int | None, "return": returned
            }  # fmt: skip
        head, *rest = verb.verb.split("_")
        name = head + "".join(part.title() for part in rest) + kind.title
        return _field(chosen, name, verb.meaning)

    def subscription(self) -> type:
        """Live queries."""
        hub = self._hub

        async def changes(
            info: Any, record: Any = None, patient: Any = "", status: Any = None, verb: Any = None, after: Any = None
        ) -> AsyncGenerator[Any, None]:  # fmt: skip
            cursor = int(after) if after else None
            asked = wanted(record or [], patient or "", status or [], verb or [])
            actor = await run_in_threadpool(_asking(info).entry.actor)
            try:
                async for item in hub().stream(actor, asked, cursor):
                    if isinstance(item, int):
                        yield {**dict.fromkeys(_CHANGE), "position": str(item), "record": "", "heartbeat": True}
                    else:
                        yield {**event(item), "position": str(item.position), "heartbeat": False}
            except CursorGone as error:
                raise Problem(410, "cursor-gone", "Changes after this position are no longer kept.") from error
            except Ended as error:
                raise Problem(503, "ended", f"The live query is over: {error}.") from error

        changes.__annotations__ = {
            "info": Info, "record": list[str] | None, "patient": str | None, "status": list[str] | None,
            "verb": list[str] | None, "after": str | None, "return": AsyncGenerator[Change, None],
        }  # fmt: skip
        made: Any = strawberry.subscription(resolver=changes, name="changes", description="Changes as they come.")
        made.python_name = "changes"
        return create_type("Subscription", [made], description="Live queries.")


_CHANGE = ("id", "patient", "verb", "version", "status", "at", "detail")
_SAME = ("device_data", "audit_log", "care_team", "break_glass")


@strawberry.type(description="One change of a record; give the position back as `after` to resume.")
class Change:
    """A change, or (`heartbeat`) a position that was reached without one."""

    position: str
    record: str = strawberry.field(description="Kind of record.")
    heartbeat: bool
    id: str | None = None
    patient: str | None = None
    verb: str | None = None
    version: int | None = None
    status: str | None = None
    at: datetime | None = None
    detail: JSON | None = None


def _field(resolver: Callable[..., Any], name: str, description: str) -> Any:
    made = strawberry.field(resolver=resolver, name=name, description=description)
    made.python_name = name
    return made


def _no_zero(*values: Any) -> None:
    from vitalgate.api.entry import has_zero

    if any(has_zero(value) for value in values):
        raise Problem(422, "invalid", "A text holds a zero byte, which cannot be stored.")


def _query_fields(user: Any) -> list[Any]:
    async def me(info: Any) -> Any:
        return await _asking(info).do(records_accounts.me)

    async def my_patients(info: Any) -> Any:
        return await _asking(info).do(records_care.my_patients)

    async def latest_readings(info: Any, patient: Any) -> Any:
        _no_zero(patient)
        return await _asking(info).do(lambda tx: records_readings.latest(tx, str(patient)))

    me.__annotations__ = {"info": Info, "return": user}
    my_patients.__annotations__ = {"info": Info, "return": list[strawberry.ID]}
    latest_readings.__annotations__ = {"info": Info, "patient": strawberry.ID, "return": JSON}
    return [
        _field(me, "me", "Who is logged in."),
        _field(my_patients, "myPatients", "Patients whose records the caller looks after, or is."),
        _field(latest_readings, "latestReadings", "The latest value of each metric."),
    ]


class _Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Say what a refusal is, and nothing of a mistake of ours; both have a code."""
        for error in errors:
            original = error.original_error
            if original is None or isinstance(original, GraphQLError):
                continue
            problem = _problem(original)
            if problem is None:
                log.error("GraphQL request failed", exc_info=original)
                problem = Problem(500, "internal", "Something went wrong on our side.")
            error.message = problem.detail
            error.extensions = {"code": problem.kind, "status": problem.status}
            if problem.errors:
                error.extensions["errors"] = [dict(one) for one in problem.errors]


def _problem(error: BaseException) -> Problem | None:
    if isinstance(error, Problem):
        return error
    if isinstance(error, RecordError):
        return of_record(error)
    if isinstance(error, TransientDatabaseError):
        return unavailable()
    return None


def build(settings: ApiSettings, hub: Callable[[], Hub]) -> strawberry.Schema:
    """The schema, with the limits of the settings."""
    builder = _Builder(hub)
    globals()["PatientProfile"] = builder.types["patient_profile"]
    limits = type("SetLimits", (Limits,), {"depth": settings.graphql_depth, "cost": settings.graphql_cost})
    return _Schema(
        query=builder.query(), mutation=builder.mutation(), subscription=builder.subscription(),
        extensions=[limits, lambda: MaxAliasesLimiter(30), lambda: MaxTokensLimiter(2000)],
        config=StrawberryConfig(default_resolver=resolve, auto_camel_case=False),
    )  # fmt: skip
