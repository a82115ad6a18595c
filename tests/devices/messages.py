"""Hypothesis strategies: good messages of every kind, and what garbling makes of them."""

from __future__ import annotations

from typing import Any

import cbor2
from hypothesis import strategies as st

from vitalgate.devices import catalogue
from vitalgate.devices.catalogue import Channel, Kind, Metric
from vitalgate.devices.codec import encode_cbor, encode_json, pack_samples

from .support import at

SECONDS = st.floats(-3600, 0).map(lambda seconds: round(seconds, 3))


@st.composite
def good_reading(draw: st.DrawFn, metric: Metric) -> dict[str, Any]:
    """A reading of this metric that is accepted."""
    item: dict[str, Any] = {"metric": metric.name, "time": at(draw(SECONDS))}
    if metric.coded:
        item["code"] = draw(st.sampled_from(sorted(metric.codes)))
    elif draw(st.integers(0, 9)) == 0:
        item["absent"] = "error"
    else:
        unit = draw(st.sampled_from(sorted(metric.units)))
        known = metric.units[unit]
        # Stay off the very edges, where rounding to a few digits could leave the limits.
        share = draw(st.floats(0.01, 0.99))
        canonical = metric.low + share * (metric.high - metric.low)
        item["value"] = round(float((canonical - float(known.offset)) / float(known.factor)), 6)
        item["unit"] = unit
        if draw(st.integers(0, 9)) == 0:
            item["comparator"] = draw(st.sampled_from(["<", ">"]))
    if draw(st.booleans()) and metric.sites:
        item["site"] = draw(st.sampled_from(sorted(metric.sites)))
    if draw(st.booleans()) and metric.contexts:
        name = draw(st.sampled_from(sorted(metric.contexts)))
        item["context"] = {name: draw(st.sampled_from(sorted(metric.contexts[name])))}
    if draw(st.booleans()):
        item["index"] = draw(st.integers(0, 3))
    return item


@st.composite
def good_block(draw: st.DrawFn, channel: Channel) -> dict[str, Any]:
    """A block of this channel that is accepted."""
    samples = draw(st.lists(st.integers(-1500, 1500), min_size=1, max_size=40))
    block: dict[str, Any] = {
        "channel": channel.name,
        "start": at(draw(SECONDS)),
        "rate": str(channel.rate),
        "gain": 200,
        "unit": channel.unit,
        "samples": draw(st.sampled_from([samples, pack_samples(samples)])),
    }
    if draw(st.booleans()):
        block |= {"recording": "r1", "first_sample": draw(st.integers(0, 10_000))}
    return block


@st.composite
def good_message(draw: st.DrawFn, kind: Kind) -> tuple[str, dict[str, Any]]:
    """(leaf, document) of a message that is accepted whole."""
    document: dict[str, Any] = {}
    if draw(st.booleans()):
        document |= {"epoch": draw(st.sampled_from(["e1", "e2"])), "seq": draw(st.integers(0, 30))}
    if draw(st.booleans()):
        document["sent_at"] = at(draw(st.floats(-5, 0)))
    leaf = draw(st.sampled_from(["readings", "waveforms", "status"] if kind.channels else ["readings", "status"]))
    if leaf == "status":
        document |= {"state": draw(st.sampled_from(["online", "offline"])), "battery": draw(st.integers(0, 100))}
    elif leaf == "readings":
        metrics = st.sampled_from(sorted(kind.metrics)).flatmap(lambda name: good_reading(kind.metrics[name]))
        document["readings"] = draw(st.lists(metrics, min_size=1, max_size=1 if kind.ordered else 4))
    else:
        channels = st.sampled_from(sorted(kind.channels)).flatmap(lambda name: good_block(kind.channels[name]))
        document["waveforms"] = draw(st.lists(channels, min_size=1, max_size=3))
    return leaf, document


KINDS = st.sampled_from(sorted(catalogue.load().kinds.values(), key=lambda kind: kind.name))
JUNK = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8)
    | st.sampled_from(["97", "", "%", "1970-01-01T00:00:00Z", [], {}, [None], {"time": 5}, -1, 1e308, "\u0000"])
)  # fmt: skip


@st.composite
def garbled(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    """The document with one value somewhere replaced, taken out or renamed: it still parses."""
    document = dict(document)
    key = draw(st.sampled_from(sorted(document) or [""]))
    inner = document.get(key)
    if isinstance(inner, list) and inner and isinstance(inner[0], dict) and draw(st.booleans()):
        place = draw(st.integers(0, len(inner) - 1))
        return {**document, key: [*inner[:place], draw(garbled(inner[place])), *inner[place + 1 :]]}
    action = draw(st.sampled_from(["replace", "remove", "rename", "add"]))
    if action == "replace":
        document[key] = draw(JUNK)
    elif action == "add":
        document[draw(st.text(max_size=8))] = draw(JUNK)
    else:
        value = document.pop(key, None)
        if action == "rename":
            document[draw(st.sampled_from([key.upper(), key + "s", key[:-1]]))] = value
    return document


@st.composite
def mutated(draw: st.DrawFn, payload: bytes) -> bytes:
    """The bytes with a few of them changed, cut, or doubled."""
    data = bytearray(payload)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        action = draw(st.sampled_from(["flip", "cut", "insert", "double"]))
        if action == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif action == "cut":
            del data[place : place + draw(st.integers(1, 10))]
        elif action == "insert":
            data[place:place] = draw(st.binary(max_size=5))
        else:
            data[place:place] = data[place : place + 20]
    return bytes(data)


def as_bytes(document: dict[str, Any], cbor: bool) -> bytes:
    """The document on the wire; what JSON cannot say goes as CBOR."""
    try:
        return encode_cbor(document) if cbor else encode_json(document)
    except ValueError:
        return cbor2.dumps(document)


@st.composite
def payload(draw: st.DrawFn) -> tuple[Kind, str, bytes]:
    """(kind, leaf, bytes): good, garbled, mutated, or no message at all."""
    kind = draw(KINDS)
    leaf, document = draw(good_message(kind))
    how = draw(st.sampled_from(["good", "garbled", "garbled", "mutated", "leaf", "bytes"]))
    if how == "bytes":
        return kind, leaf, draw(st.binary(max_size=100))
    if how == "leaf":
        leaf = draw(st.sampled_from(["readings", "waveforms", "status"]))
    if how == "garbled":
        document = draw(garbled(document))
    data = as_bytes(document, draw(st.booleans()))
    return kind, leaf, draw(mutated(data)) if how == "mutated" else data
