"""A table as JSON, CBOR or an Arrow stream, whichever the caller accepts. Pure."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import cbor2
import numpy as np
import orjson

from vitalgate.api.problems import Problem

JSON: Final = "application/json"
CBOR: Final = "application/cbor"
ARROW: Final = "application/vnd.apache.arrow.stream"
_NAMES: Final = {"json": JSON, "cbor": CBOR, "arrow": ARROW}


def choose(accept: str | None, named: str | None = None) -> str:
    """The media type to answer in: the one named in the query, else the best that `Accept` takes.

    Raises
    ------
    Problem
        406 when it takes none of the three.
    """
    if named:
        if named not in _NAMES:
            raise Problem(400, "bad-format", f"format is {named[:20]!r}; there are {', '.join(_NAMES)}.")
        return _NAMES[named]
    if not accept:
        return JSON
    best, best_q = "", 0.0
    for part in accept.split(","):
        kind, *options = (piece.strip() for piece in part.split(";"))
        q = 1.0
        for option in options:
            if option.startswith("q="):
                try:
                    q = float(option[2:])
                except ValueError:
                    q = 0.0
        for candidate in (JSON, CBOR, ARROW):
            if kind in (candidate, "*/*", "application/*") and q > best_q:
                best, best_q = candidate, q
                break
    if not best:
        raise Problem(406, "not-acceptable", f"This can be had as {JSON}, {CBOR} or {ARROW}.")
    return best


def document(body: Any, kind: str) -> bytes:
    """A document of plain values, NumPy arrays among them, as JSON or CBOR; NaN becomes null."""
    if kind == CBOR:
        return cbor2.dumps(_plain(body))
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z)


def arrow(columns: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """Columns of equal length as an Arrow IPC stream; `metadata` goes with the schema. NaN becomes null."""
    import pyarrow as pa

    arrays = {
        name: pa.array(values, from_pandas=True) if isinstance(values, np.ndarray) else pa.array(values)
        for name, values in columns.items()
    }
    table = pa.table(arrays).replace_schema_metadata(dict(metadata))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _plain(value: Any) -> Any:
    match value:
        case np.ndarray():
            if value.dtype.kind == "f":
                return [None if number != number else number for number in value.tolist()]
            return value.tolist()
        case dict():
            return {key: _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case float() if value != value:
            return None
        case _:
            return value
