"""What a kind of record is: its fields, its states, the verbs that change it, and their pre-conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import AwareDatetime, BaseModel, create_model

from vitalgate.records.errors import Invalid
from vitalgate.records.fields import RecordModel, facts
from vitalgate.records.fields import field as declare

Values = Mapping[str, Any]
"""By field name (with underscores)."""
Check = Callable[[Values, Values], None]
"""(the record as it would become, as it was — empty at creation); raises Invalid or Conflict."""


class Envelope(RecordModel):
    """What every record has."""

    id: str = declare("Identity of the record.", "", source="server")
    patient: str = declare("Whose record it is: the patient's opaque id.", column="patient_id", required=True)
    version: int = declare("1 at creation, one more with every change; also the ETag.", 1, source="server")
    created_at: AwareDatetime | None = declare("When it was entered.", source="server")
    created_by: str | None = declare("User who entered it, or service:NAME.", source="server")
    changed_at: AwareDatetime | None = declare("When this version was made.", source="server")
    changed_by: str | None = declare("User who made this version.", source="server")
    withdrawn_at: AwareDatetime | None = declare("When it was withdrawn; it stays readable as such.", source="server")
    withdrawn_reason: str | None = declare("Why it was withdrawn.", source="server", max_length=500)


@dataclass(frozen=True)
class Transition:
    """A verb: from which states, to which, what may and must be given with it, and what is stamped.

    Attributes
    ----------
    frm
        States it starts from; empty for a verb that creates.
    to
        The state afterwards; None leaves it.
    fields
        What may be given.
    required
        What must be given or be there already.
    stamps
        Fields that the database sets: now, user; first and today (now, or its day, unless there is one already); next
        (one more).
    check
        Further pre-conditions.
    """

    verb: str
    meaning: str
    frm: tuple[str, ...] = ()
    to: str | None = None
    fields: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    stamps: Mapping[str, str] = field(default_factory=dict)
    check: Check | None = None

    @property
    def creates(self) -> bool:
        """Whether this verb makes a record."""
        return not self.frm


@dataclass(frozen=True)
class RecordType:
    """One kind of record.

    Attributes
    ----------
    name
        In the program, in the database and in audit events: ecg_report.
    title
        In schemas and GraphQL: ECGReport.
    path
        In REST: ecg-reports.
    also
        Other titles under which it is known.
    model
        The record as it is served.
    relation
        The table or view that is read, a plain name in the schema of records.
    table
        The table that is written; empty for what is only read.
    states
        All values of `status`, in the order of a record's life; empty when there is none.
    sorts
        Fields that lists can be sorted by; the first is the default, newest first.
    filters
        Fields that lists can be filtered by, for equality (dates and times: also for ranges).
    indexed
        Sealed fields that have a blind index.
    """

    name: str
    title: str
    path: str
    meaning: str
    model: type[RecordModel]
    relation: str
    table: str = ""
    also: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    transitions: Mapping[str, Transition] = field(default_factory=dict)
    sorts: tuple[str, ...] = ("created_at",)
    filters: tuple[str, ...] = ()
    indexed: tuple[str, ...] = ()
    key: str = "id"

    @property
    def writable(self) -> bool:
        """Whether any verb but reading exists."""
        return bool(self.transitions)

    @cached_property
    def columns(self) -> dict[str, str]:
        """Column by field, stored fields only."""
        return {
            name: facts(info).get("column") or name
            for name, info in self.model.model_fields.items()
            if not str(facts(info).get("column", "-" if not facts(info) else "")).startswith(("-", "="))
        }

    @cached_property
    def told(self) -> dict[str, str]:
        """SQL by field, of fields that are worked out and not stored."""
        columns = {name: str(facts(info).get("column", "")) for name, info in self.model.model_fields.items()}
        return {name: column[1:] for name, column in columns.items() if column.startswith("=")}

    @cached_property
    def sealed(self) -> frozenset[str]:
        """Fields that are kept encrypted."""
        return frozenset(name for name, info in self.model.model_fields.items() if facts(info).get("sealed"))

    @cached_property
    def spellings(self) -> dict[str, str]:
        """Field by every spelling that is accepted outside."""
        found = {}
        for name, info in self.model.model_fields.items():
            found[info.alias or name] = name
            found[name] = name
            if second := facts(info).get("also"):
                found[second] = name
        return found

    @cached_property
    def doubled(self) -> dict[str, str]:
        """Second spelling by first, for serving both."""
        return {
            info.alias or name: facts(info)["also"]
            for name, info in self.model.model_fields.items()
            if facts(info).get("also")
        }

    def columns_of(self, verb: Transition) -> list[str]:
        """The columns that a verb may set, those of blind indexes included."""
        names = [*verb.fields, *verb.stamps]
        found = [self.columns[name] for name in names if name in self.columns]
        return found + [f"{name}_index" for name in names if name in self.indexed]

    def verb(self, name: str) -> Transition:
        """A verb by name. Raises Invalid, naming those there are."""
        found = self.transitions.get(name)
        if found is None:
            raise Invalid(f"{self.title} has no verb {name!r}; it has {', '.join(self.transitions) or 'none'}")
        return found

    def input_model(self, verb: str) -> type[BaseModel]:
        """The fields that may be given with a verb, as a model: for OpenAPI, GraphQL and JSON Schema."""
        return _input_model(self, self.verb(verb))


_MODELS: dict[tuple[str, str], type[BaseModel]] = {}


def _input_model(kind: RecordType, verb: Transition) -> type[BaseModel]:
    key = (kind.name, verb.verb)
    if key not in _MODELS:
        fields: dict[str, Any] = {}
        for name in verb.fields:
            info = kind.model.model_fields[name]
            required = name in verb.required and verb.creates
            one = declare(
                info.description or "", None if info.is_required() else info.get_default(call_default_factory=True),
                required=required, alias=info.alias, also=facts(info).get("also", ""),
            )  # fmt: skip
            one.metadata = list(info.metadata)
            annotation: Any = info.annotation
            fields[name] = (annotation if required else annotation | None, one)
        title = f"{kind.title}{''.join(part.title() for part in verb.verb.split('_'))}"
        _MODELS[key] = create_model(title, __base__=RecordModel, __doc__=verb.meaning, **fields)
    return _MODELS[key]
