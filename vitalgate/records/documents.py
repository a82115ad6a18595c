"""Between what is spelt outside and what is kept: documents in, checked; documents out, in both spellings. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from vitalgate.records.errors import Conflict, Invalid
from vitalgate.records.record_type import RecordType, Transition, Values


def taken(kind: RecordType, verb: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given with a verb, by field name, of the field's type; only what was given.

    Parameters
    ----------
    given
        By any accepted spelling: `displayName`, `fullName` or `display_name`.

    Raises
    ------
    Invalid
        For an unknown field, one that this verb does not take, one given twice with different values, or a value that
        cannot be; all of them are named.
    """
    step = kind.verb(verb)
    model = kind.input_model(verb)
    wrong: list[tuple[str, str]] = []
    found: dict[str, Any] = {}
    for spelling, value in given.items():
        name = kind.spellings.get(spelling)
        if name is None:
            wrong.append((spelling, f"is no field of {kind.title}"))
        elif name not in step.fields:
            wrong.append((spelling, f"cannot be given with {verb}; that takes {', '.join(step.fields) or 'nothing'}"))
        elif name in found and found[name] != value:
            wrong.append((spelling, "is given twice, in both spellings, with different values"))
        else:
            found[name] = value
    try:
        made = model.model_validate(found)
    except ValidationError as error:
        wrong += [(_spelt(kind, given, *one["loc"]), one["msg"]) for one in error.errors()]
    if wrong:
        text = "; ".join(f"{where} {what}" for where, what in wrong)
        raise Invalid(f"{kind.title}: {text}", wrong)
    return {name: _kept(getattr(made, name)) for name in found}


def _spelt(kind: RecordType, given: Mapping[str, Any], name: int | str, *rest: int | str) -> str:
    """A place in a document, as whoever gave it spells it."""
    spellings = [spelling for spelling, field in kind.spellings.items() if field == name]
    first = next((one for one in spellings if one in given), spellings[0] if spellings else str(name))
    return ".".join([first, *(str(part) for part in rest)])


def _kept(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, list):
        return [_kept(one) for one in value]
    return value


def stepped(kind: RecordType, verb: str, before: Values, given: Values, now: datetime, user: str) -> dict[str, Any]:
    """The fields that a verb sets, once its pre-conditions hold.

    Parameters
    ----------
    before
        The record as it is; empty at creation.
    given
        As `taken` made it.
    user
        Who acts.

    Raises
    ------
    Conflict
        When the record is not in a state that the verb starts from.
    Invalid
        When something required is missing, or a pre-condition does not hold.
    """
    step = kind.verb(verb)
    if not step.creates:
        _check_state(kind, step, before)
    changed = {**given, **stamps(step, before, now, user)}
    if step.to is not None:
        changed["status"] = step.to
    after = {**_defaults(kind), **before, **changed} if step.creates else {**before, **changed}
    for name in step.required:
        # What a correction is about must be said anew; what was there counts for a first version only.
        if after.get(name) in (None, "") or (not step.creates and name not in changed and name in step.fields):
            spelt = kind.model.model_fields[name].alias or name
            raise Invalid(f"{kind.title} cannot {verb} without {spelt}", [(spelt, "is missing")])
    if step.check is not None:
        step.check(_models(kind, after), before)
    return changed


def _check_state(kind: RecordType, step: Transition, before: Values) -> None:
    if before.get("withdrawn_at") is not None:
        raise Conflict(f"this {kind.title} was withdrawn; nothing can be done with it any more")
    if before.get("status") not in step.frm:
        raise Conflict(
            f"{kind.title} cannot {step.verb} while it is {before.get('status')}: "
            f"that starts from {', '.join(step.frm)}"
        )


def stamps(step: Transition, before: Values, now: datetime, user: str) -> dict[str, Any]:
    """What a verb sets by itself."""
    made: dict[str, Any] = {}
    for name, how in step.stamps.items():
        if how == "now":
            made[name] = now
        elif how == "user":
            made[name] = user
        elif how == "next":
            made[name] = int(before.get(name) or 0) + 1
        elif before.get(name) is None:
            made[name] = now.astimezone(UTC).date() if how == "today" else now
    return made


def _defaults(kind: RecordType) -> dict[str, Any]:
    return {
        name: info.get_default(call_default_factory=True)
        for name, info in kind.model.model_fields.items()
        if not info.is_required()
    }


def _models(kind: RecordType, values: Values) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in kind.model.model_fields}


def served(
    kind: RecordType, values: Values, only: Collection[str] | None = None, *, both: bool = True
) -> dict[str, Any]:
    """A record as it goes out: camel case, and the second spelling beside the first.

    Parameters
    ----------
    only
        Sparse fields, in any accepted spelling; a spelling asked for is the one served.
    both
        False leaves the second spellings out (GraphQL has them as fields of their own).
    """
    wanted = None
    if only is not None:
        if unknown := sorted(set(only) - kind.spellings.keys()):
            raise Invalid(f"{kind.title} has no field {unknown[0]!r}", [(unknown[0], f"is no field of {kind.title}")])
        wanted = {kind.spellings[name] for name in only}
    made: dict[str, Any] = {}
    for name, info in kind.model.model_fields.items():
        if name not in values or (wanted is not None and name not in wanted):
            continue
        first = info.alias or name
        made[first] = values[name]
        if both and first in kind.doubled:
            made[kind.doubled[first]] = values[name]
    return made


def plain(value: Any) -> Any:
    """A value as JSON has it: RFC 3339 times with Z."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value
