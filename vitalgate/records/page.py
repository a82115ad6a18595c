"""The page about records: entity diagram, data dictionary, permissions and JSON Schemas, all from the models. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from vitalgate.records.catalogue import RECORDS
from vitalgate.records.fields import facts
from vitalgate.records.permissions import Role, permissions
from vitalgate.records.record_type import RecordType

SCHEMA_FILE = "records.schema.json"
_HEAD = """# Records

What is kept of a patient around the devices, who may do what with it, and how each record lives. This page is made by
`vitalgate schema records` from the models in `vitalgate/records/`; a test holds it to them. The HTTP and GraphQL
interfaces serve these fields by these names; of two spellings both are accepted and served.

Records are in the schema `vitalgate_records` (setting `database.db_schema`, `_records` appended). An application's
connection takes on the role `vitalgate_app` for a transaction, with the user and the role in which the user acts:
row-level security decides what may be seen, a trigger what may be done. Without a user there is nothing to see. Every
change makes a version, an audit event and a change for live queries, in the same transaction. Nothing clinical is
deleted: it is withdrawn, with a reason. Identity fields are sealed (AES-256-GCM, a key for each value) and found by
exact match only; `vitalgate user reseal` puts them under a rotated ring's current keys.

- **Who is what to whom** is one view, `relations`: a clinician is assigned by a line of the care team that names the
  patient, or as a member of the team that the patient's alerts go to (`vitalgate clinician assign`); with history, and
  in force for the next transaction, open live queries included.
- **Break-glass**: a clinician who is a stranger finds the patient's id by the exact medical record number, opens the
  record with a reason for at most 24 hours, and may read. The patient, the care team and the administrators are told.
- **Reading is audited** where our functions read (`vitalgate.storage.records_*`); statements typed in as the
  application's role meet the same wall, but no trigger sees a SELECT. The registrar takes the events to the chain.
- **The role is the program's**: a connection says which user acts, and the database believes it. The wall holds
  against mistakes of a handler, not against somebody who has the database's credentials.
- **Typed-in readings** are checked, written down with who entered them, and sent by the registrar to `device.raw` as
  from a device `manual-…` of the patient: from there they go the way of all readings, versions included.
- **A changed version** is refused (`Changed`, HTTP 412) when another one was read; of sealed and plain fields alike.
- **Messages** older than `database.message_days` lose their words, unless an administrator holds their thread.
  Live queries can be resumed for `database.changes_days`.

"""
#: Field -> record it refers to, in the diagram.
_REFERS = {
    "patient": "patient_profile", "user": "user", "user_id": "user", "from_user": "user", "to_user": "user",
    "reviewed_by": "user",
}  # fmt: skip


def page() -> str:
    """``docs/records.md``."""
    parts = [_HEAD, "## Entities\n\n```mermaid\n", *_diagram(), "```\n\n", *_permissions(), "## Data dictionary\n\n"]
    for kind in RECORDS.values():
        parts += _record(kind)
    parts.append("## JSON Schemas\n\n`schemas/records.schema.json` has each record as it is served, and what each verb")
    parts.append(" takes.\n")
    return "".join(parts)


def schemas() -> str:
    """``schemas/records.schema.json``: each record as served (`ECGReport`), and its verbs' input (`ECGReportAmend`)."""
    models: list[tuple[type[Any], Any]] = []
    for kind in RECORDS.values():
        models.append((kind.model, "serialization"))
        models += [(kind.input_model(verb), "validation") for verb in kind.transitions]
    _, document = models_json_schema(models, by_alias=True, schema_generator=GenerateJsonSchema)
    document = _plain(document)
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:vitalgate:schema:records:1",
        "title": "records",
        **document,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _plain(document: Any) -> Any:
    """Without what is ours alone."""
    if isinstance(document, dict):
        return {key: _plain(value) for key, value in document.items() if key != "x-vitalgate"}
    return [_plain(one) for one in document] if isinstance(document, list) else document


def _diagram() -> Iterator[str]:
    yield "erDiagram\n"
    for kind in RECORDS.values():
        seen = set()
        for name in kind.model.model_fields:
            other = _REFERS.get(name)
            if other is not None and other != kind.name and other not in seen:
                seen.add(other)
                yield f'    {RECORDS[other].title} ||--o{{ {kind.title} : "{_spelt(kind, name)}"\n'
    yield '    Device ||--o{ DeviceData : "device"\n'
    yield '    DeviceData ||--o{ MonitoringLog : "data"\n'
    for kind in RECORDS.values():
        yield f"    {kind.title} {{\n"
        for name, info in kind.model.model_fields.items():
            key = " PK" if name == "id" else ""
            yield f"        {_word(info.annotation)} {_spelt(kind, name)}{key}\n"
        yield "    }\n"


def _spelt(kind: RecordType, name: str) -> str:
    return kind.model.model_fields[name].alias or name


def _word(annotation: Any) -> str:
    """A type in one word."""
    text = _type(annotation)
    for word in ("list", "object"):
        if word in text:
            return word
    return "text" if text.startswith("one of") else text.split(" ")[0]


def _type(annotation: Any) -> str:
    text = str(annotation if not isinstance(annotation, type) else annotation.__name__)
    if "Literal" in text:
        return "one of " + ", ".join(part.strip(" '") for part in text.split("[", 1)[1].split("]")[0].split(","))
    for found, told in (("list", "list"), ("dict", "object"), ("datetime", "time"), ("date", "date")):
        if found in text:
            return told
    plain = text.replace("typing.", "").split(" | ")
    names = [part.rsplit(".", 1)[-1] for part in plain if part != "None"]
    known = {"str": "text", "int": "integer", "float": "number", "bool": "boolean", "AwareDatetime": "time"}
    return " or ".join(known.get(name, "object") for name in names)


def _permissions() -> Iterator[str]:
    yield "## Who may do what\n\n"
    yield "One table, `vitalgate/records/permissions.toml`: loaded into the database, which enforces it. A cell names\n"
    yield "the relation to the patient (with a condition); an empty one is never allowed.\n\n"
    roles = list(Role)
    yield f"| record | verb | {' | '.join(roles)} |\n|---|---|{'---|' * len(roles)}\n"
    lines: dict[tuple[str, str], dict[Role, list[str]]] = {}
    order = list(RECORDS)
    for one in permissions():
        told = str(one.relation) + (f" ({one.condition})" if one.condition else "")
        lines.setdefault((one.record, one.verb), {}).setdefault(one.role, []).append(told.replace("_", "-"))
    for record, verb in sorted(lines, key=lambda key: (order.index(key[0]), key[1] != "read", _place(*key))):
        cells = [", ".join(lines[record, verb].get(role, [])) for role in roles]
        yield f"| {RECORDS[record].title} | {verb} | {' | '.join(cells)} |\n"
    yield "\n"


def _place(record: str, verb: str) -> int:
    verbs = list(RECORDS[record].transitions)
    return verbs.index(verb) if verb in verbs else -1


def _record(kind: RecordType) -> Iterator[str]:
    also = f" (also {', '.join(kind.also)})" if kind.also else ""
    yield f"### {kind.title}{also}\n\n{kind.meaning}"
    yield f" REST: `/v1/{kind.path}`. Sorted by {', '.join(f'`{_spelt(kind, name)}`' for name in kind.sorts)};"
    filters = [f"`{_spelt(kind, name)}`" for name in (*kind.filters, *kind.indexed)]
    yield f" filtered by {', '.join(filters)}.\n\n"
    yield "| field | second spelling | type | set by | meaning |\n|---|---|---|---|---|\n"
    for name, info in kind.model.model_fields.items():
        known = facts(info)
        sealed = " Sealed." if known.get("sealed") else ""
        second = f"`{known['also']}`" if known.get("also") else ""
        who = "client" if any(name in step.fields for step in kind.transitions.values()) else "server"
        yield f"| `{_spelt(kind, name)}` | {second} | {_type(info.annotation)} | {who} | {info.description}{sealed} |\n"
    yield "\n"
    if not kind.transitions:
        return
    if kind.states:
        yield "```mermaid\nstateDiagram-v2\n"
        for step in kind.transitions.values():
            for start in step.frm or ("[*]",):
                if (step.to or start) != start:
                    yield f"    {start} --> {step.to}: {step.verb}\n"
        yield "```\n\n"
    yield "| verb | from | to | takes | meaning |\n|---|---|---|---|---|\n"
    for step in kind.transitions.values():
        takes = [f"**`{_spelt(kind, name)}`**" if name in step.required else f"`{_spelt(kind, name)}`"
                 for name in step.fields]  # fmt: skip
        told = ", ".join(step.frm) or "-"
        yield f"| {step.verb} | {told} | {step.to or '-'} | {', '.join(takes)} | {step.meaning} |\n"
    yield "\n"
