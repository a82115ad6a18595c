"""How the fields of a record are declared: one pydantic model a record, with everything that is known of each field."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

Source = Literal["given", "changed", "server"]


class RecordModel(BaseModel):
    """Base of all record models: names in the program with underscores, outside in camel case."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


def field(
    meaning: str,
    default: Any = None,
    *,
    source: Source = "given",
    also: str = "",
    alias: str | None = None,
    column: str = "",
    sealed: bool = False,
    required: bool = False,
    **constraints: Any,
) -> Any:
    """Declare a field.

    Parameters
    ----------
    source
        given: by whoever creates the record, and changeable by the verbs that name it. server: never by a client.
    also
        The field's second spelling outside, accepted and served beside the first.
    alias
        Its first spelling, when that is not the camel case of its name.
    column
        Its column, when that is not its name; "=SQL" for one that is worked out from others, "-" for one that is taken
        and not kept.
    sealed
        Kept encrypted; searched for by exact match only, where the record says that it is indexed.
    required
        At creation.
    """
    extra: dict[str, JsonValue] = {"source": source, "also": also, "column": column, "sealed": sealed}
    options: dict[str, Any] = dict(constraints)
    if alias is not None:
        options["alias"] = alias
    return Field(... if required else default, description=meaning, json_schema_extra={"x-vitalgate": extra}, **options)


def facts(info: FieldInfo) -> dict[str, Any]:
    """What `field` was told of a field."""
    extra = info.json_schema_extra
    return dict(extra["x-vitalgate"]) if isinstance(extra, dict) and "x-vitalgate" in extra else {}  # type: ignore[arg-type]  # pydantic types it as any JSON
