"""Bad messages in volume: good ones of every kind, changed in their structure or in their bytes, and crafted ones.

Everything follows from the seed and the time. No two payloads are alike, so that each is found by its hash. In between
go messages of devices that never do anything wrong: nothing of theirs may be refused.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import random
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import cbor2

from vitalgate.devices import catalogue, times
from vitalgate.devices.catalogue import Channel, Kind, Metric
from vitalgate.devices.codec import encode_cbor, encode_json, pack_samples
from vitalgate.devices.reasons import Reason
from vitalgate.simulators import garbage

LEAVES = ("readings", "waveforms", "status")
JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 97, 2**31, 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 0.5, -0.0, 1e-308, 1e308,
    float("nan"), float("inf"), "", "97", "%", "mV", "\u0000", "\u202e", "é" * 300, "1970-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z", "2026-11-21", [], {}, [None], [[]], [[0, 1]], {"time": 5}, {"": ""}, ["readings"],
)  # fmt: skip


#: Payloads of one crafted sort in every 100,000; each reason is hit at least twenty times by them alone.
CRAFTED_EACH = 24
#: How the payloads are made, with their shares.
WAYS = {"clean": 10, "good": 8, "structure": 52, "bytes": 24, "leaf": 3, "noise": 3}


class Sent(NamedTuple):
    """One payload: who publishes it, where, and what it was made from."""

    device: str
    leaf: str
    payload: bytes
    how: str


class Fuzz:
    """Makes the messages.

    Parameters
    ----------
    devices
        Kind to device id, of those that send what is bad too.
    clean
        The same, of those that send nothing bad.
    now_us
        Times of measurement lie in the hour before; no two messages have the same.
    """

    def __init__(self, seed: int, devices: Mapping[str, str], clean: Mapping[str, str], now_us: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  no secret
        kinds = catalogue.load().kinds
        self._devices = [(kinds[kind], device) for kind, device in devices.items()]
        self._clean = [(kinds[kind], device) for kind, device in clean.items()]
        self._now_us = now_us
        self._time_us = now_us - 3_600_000_000
        self._next = dict.fromkeys((*devices.values(), *clean.values()), 0)
        self._first = dict.fromkeys((*devices.values(), *clean.values()), 0)
        self._seen: set[bytes] = set()
        self._rounds = 0
        """Crafted payloads are numbered on, so that those of a further call are new."""

    def messages(self, count: int) -> Iterator[Sent]:
        """So many payloads, every one different; crafted ones for every reason among them."""
        times = max(1, CRAFTED_EACH * count // 100_000)
        crafted: list[Sent] = []
        for number in range(self._rounds, self._rounds + times):
            crafted += [one for one in (*self._crafted(number), *self._extreme(number)) if self._is_new(one.payload)]
        self._rounds += times
        places = set(self._random.sample(range(count), min(count, len(crafted))))
        for place in range(count):
            yield crafted.pop(0) if place in places else self._new()

    def _new(self) -> Sent:
        while True:
            sent = self._one()
            if self._is_new(sent.payload):
                return sent

    def _is_new(self, payload: bytes) -> bool:
        digest = hashlib.blake2b(payload, digest_size=16).digest()
        fresh = digest not in self._seen
        self._seen.add(digest)
        return fresh

    def _one(self) -> Sent:
        draw = self._random
        how = draw.choices(list(WAYS), list(WAYS.values()))[0]
        if how == "clean":
            kind, device = draw.choice(self._clean)
            leaf, document = self._good(kind, device, clean=True)
            return Sent(device, leaf, _encoded(document, cbor=draw.random() < 0.4), how)
        kind, device = draw.choice(self._devices)
        leaf, document = self._good(kind, device)
        if how == "noise":
            return Sent(device, draw.choice(LEAVES), draw.randbytes(draw.randint(0, 120)), how)
        if how == "leaf":
            leaf = draw.choice(LEAVES)
        if how == "structure":
            for _ in range(draw.choice((1, 1, 1, 2, 3))):
                self._garble(document)
        payload = _encoded(document, cbor=draw.random() < 0.4)
        return Sent(device, leaf, self._mutate(payload) if how == "bytes" else payload, how)

    # --- good messages ----------------------------------------------------------------------------------------------

    def _time(self) -> str:
        self._time_us += self._random.randint(1_000, 300_000)
        return times.text(self._time_us)

    def _good(self, kind: Kind, device: str, *, clean: bool = False) -> tuple[str, dict[str, Any]]:
        draw = self._random
        document: dict[str, Any] = {}
        if draw.random() < 0.6:
            self._next[device] += 1
            document |= {"epoch": "fuzz", "seq": self._next[device]}
        if draw.random() < 0.2:
            document["sent_at"] = times.text(self._now_us + draw.randint(-5_000_000, 0))
        leaf = draw.choices(LEAVES, (6, 4 if kind.channels else 0, 1))[0]
        if leaf == "status":
            document |= {"state": draw.choice(("online", "offline")), "battery": draw.randint(0, 100)}
            document["time"] = self._time()
        elif leaf == "readings":
            metrics = draw.choices(list(kind.metrics.values()), k=1 if kind.ordered else draw.randint(1, 4))
            document["readings"] = [self._reading(metric, document, correcting=not clean) for metric in metrics]
        else:
            channels = draw.choices(list(kind.channels.values()), k=draw.randint(1, 2))
            document["waveforms"] = [self._block(channel, device) for channel in channels]
        return leaf, document

    def _reading(self, metric: Metric, document: Mapping[str, Any], *, correcting: bool) -> dict[str, Any]:
        draw = self._random
        reading: dict[str, Any] = {"metric": metric.name, "time": self._time()}
        if metric.coded:
            reading["code"] = draw.choice(sorted(metric.codes))
        elif draw.random() < 0.1:
            reading["absent"] = "error"
        else:
            unit = draw.choice(list(metric.units.values()))
            value = metric.low + draw.uniform(0.01, 0.99) * (metric.high - metric.low)
            reading |= {"value": round((value - float(unit.offset)) / float(unit.factor), 6), "unit": unit.code}
        if metric.sites and draw.random() < 0.3:
            reading["site"] = draw.choice(sorted(metric.sites))
        if metric.contexts and draw.random() < 0.3:
            name = draw.choice(sorted(metric.contexts))
            reading["context"] = {name: draw.choice(sorted(metric.contexts[name]))}
        if draw.random() < 0.2:
            reading["flags"] = ["motion"]
        if correcting and "seq" in document and document["seq"] > 1 and draw.random() < 0.1:
            reading["corrects"] = {"epoch": "fuzz", "seq": draw.randint(1, document["seq"] - 1), "index": 0}
        return reading

    def _block(self, channel: Channel, device: str) -> dict[str, Any]:
        draw = self._random
        samples = [draw.randint(-900, 900) for _ in range(draw.randint(1, 60))]
        block: dict[str, Any] = {
            "channel": channel.name, "start": self._time(), "rate": str(channel.rate), "gain": 1000,
            "unit": channel.unit, "samples": draw.choice((samples, pack_samples(samples))),
        }  # fmt: skip
        if draw.random() < 0.7:
            block |= {"recording": "fuzz", "first_sample": self._first[device]}
            self._first[device] += len(samples)
        return block

    # --- and what becomes of them -----------------------------------------------------------------------------------

    def _garble(self, node: Any) -> None:
        """Change one place somewhere in the document: another value, none, another name, once more."""
        draw = self._random
        while True:
            keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw.choice(keys)
            if not isinstance(node[key], (dict, list)) or not node[key] or draw.random() < 0.2:
                break
            node = node[key]
        action = draw.choice(("replace", "replace", "remove", "rename", "add", "twice"))
        if not keys or action == "add":
            if isinstance(node, dict):
                node[draw.choice(("x_own", "valeu", "seq", "corrects", "lost", "index", "missing"))] = self._junk()
            else:
                node.append(self._junk())
        elif action == "replace":
            node[key] = self._junk()
        elif action == "remove":
            del node[key]
        elif isinstance(node, list):
            node.insert(key, copy.deepcopy(node[key]))
        elif action == "rename":
            node[draw.choice((key.upper(), key + "s", key[:-1]))] = node.pop(key)
        else:
            node["x_again"] = copy.deepcopy(node[key])

    def _junk(self) -> Any:
        return copy.deepcopy(self._random.choice(JUNK))

    def _mutate(self, payload: bytes) -> bytes:
        draw = self._random
        data = bytearray(payload)
        for _ in range(draw.choice((1, 1, 2, 4))):
            place = draw.randrange(len(data) or 1)
            action = draw.choice(("flip", "flip", "digit", "digit", "digit", "cut", "insert", "double"))
            if action == "flip" and data:
                data[place] ^= 1 << draw.randrange(8)
            elif action == "digit":
                digits = [at for at, byte in enumerate(data) if 0x30 <= byte <= 0x39]
                if digits:
                    data[draw.choice(digits)] = draw.choice(b"0123456789")
            elif action == "cut":
                del data[place : place + draw.randint(1, 10)]
            elif action == "insert":
                data[place:place] = draw.randbytes(draw.randint(1, 5))
            else:
                data[place:place] = data[place : place + 20]
        return bytes(data)

    # --- every reason -----------------------------------------------------------------------------------------------

    def _crafted(self, time_over: int) -> Iterator[Sent]:
        """At least one payload for each reason that a device can cause, and an empty one."""
        at = self._now_us / 1_000_000
        for number, what in enumerate(garbage.MAKERS, 100 * time_over):
            for kind, device in self._devices:
                try:
                    made = garbage.make(what, kind, number, at)
                except (ValueError, StopIteration):
                    continue
                payload = made.raw if made.raw is not None else encode_json(made.document)
                yield Sent(device, made.leaf, payload, f"crafted {what}")
                break
        of_kind = {kind.name: device for kind, device in self._devices}
        oximeter, cuff = of_kind["pulse-oximeter"], of_kind["bp-cuff"]
        good = {"metric": "spo2", "value": 96, "unit": "%"}
        many = [{**good, "time": self._time()} for _ in range(1001)]
        yield Sent(oximeter, "readings", encode_json({"readings": many}), f"crafted {Reason.TOO_MANY}")
        for value in (95, 94):  # the same number twice, with different content: the second is refused
            document = {
                "epoch": f"reused{time_over}",
                "seq": 1,
                "readings": [{**good, "value": value, "time": self._time()}],
            }
            yield Sent(oximeter, "readings", encode_json(document), f"crafted {Reason.SEQUENCE_REUSED}")
        time = self._time()
        pressures = [
            {"metric": "bp_systolic", "value": 70, "unit": "mm[Hg]", "time": time, "group": "g"},
            {"metric": "bp_diastolic", "value": 110, "unit": "mm[Hg]", "time": time, "group": "g"},
        ]
        yield Sent(cuff, "readings", encode_json({"readings": pressures}), f"crafted {Reason.INCONSISTENT}")
        yield Sent(oximeter, "readings", b"", "crafted empty")

    # --- what is meant to break a decoder ---------------------------------------------------------------------------

    def _extreme(self, number: int) -> Iterator[Sent]:
        """Depth, size and form beyond all reason."""
        of_kind = {kind.name: device for kind, device in self._devices}
        oximeter, patch = of_kind["pulse-oximeter"], of_kind["ecg-patch"]
        mark = b"%d" % number
        deep = 200 + 5_000 * (number % 3)
        time = self._time().encode()
        reading = b'{"readings":[{"metric":"spo2","unit":"%","time":"' + time + b'","value":'
        for name, payload in {
            "deep JSON arrays": b'{"n":' + mark + b',"readings":' + b"[" * deep + b"]" * deep + b"}",
            "deep JSON objects": b'{"n":' + mark + b',"a":' + b'{"a":' * deep + b"1" + b"}" * (deep + 1),
            "deep CBOR": b"\xa1\x61a" + b"\x81" * deep + b"\x19" + number.to_bytes(2, "big"),
            "an endless CBOR array": b"\xa1\x68readings\x9f" + mark,
            "a CBOR array that claims 2^63 items": b"\xa1\x68readings\x9b\x7f" + b"\xff" * 7 + mark,
            "CBOR bytes that claim 2^62": b"\xa1\x67samples\x5b\x3f" + b"\xff" * 7 + mark,
            "a huge whole number": reading + b"9" * (400 + number) + b"}]}",
            "a huge exponent": reading + mark + b"e999999999}]}",
            "NaN": reading + b'NaN}],"n":' + mark + b"}",
            "Infinity": reading + b'-Infinity}],"n":' + mark + b"}",
            "a repeated key": reading + b'96,"value":97,"value":' + mark + b"}]}",
            "a repeated readings": b'{"readings":[],"readings":[{"n":' + mark + b"}]}",
            "invalid UTF-8": reading + b'"\xff\xfe\xed\xa0\x80' + mark + b'"}]}',
            "a lone surrogate": reading + b'"\\ud800' + mark + b'"}]}',
            "UTF-16": (reading + mark + b"}]}").decode().encode("utf-16"),
            "a byte-order mark": b"\xef\xbb\xbf" + reading + mark + b"}]}",
            "a NUL in a name": b'{"readings":[{"metric":"spo2\\u0000' + mark + b'"}]}',
            "text after the end": reading + b"96}]} {" + mark,
        }.items():
            yield Sent(oximeter, "readings", payload, f"extreme {name}")
        block = {
            "channel": "ecg.II", "recording": f"bomb{number}", "first_sample": 0, "start": time.decode(), "rate": 250,
            "gain": 1000, "unit": "mV", "count": 10**9, "encoding": "zlib",
        }  # fmt: skip
        bomb = zlib.compress(b"\0" * 20_000_000 + mark, 9)
        for name, samples in {
            "a packed bomb": bomb,
            "packed samples in base64": base64.b64encode(bomb).decode(),
            "packed samples of odd length": pack_samples([1, 2, 3])[:-1] + mark,
            "a sample of 2^63": [2**63 - 1 - number],
            "too many samples": [number] * 200_001 if number % 8 == 0 else [number, 0.5],
        }.items():
            document = {"waveforms": [{**block, "samples": samples}]}
            yield Sent(patch, "waveforms", _encoded(document, cbor=isinstance(samples, bytes)), f"extreme {name}")


def _encoded(document: dict[str, Any], *, cbor: bool) -> bytes:
    """As JSON or CBOR; what strict JSON cannot say (NaN) in the way that careless firmware says it."""
    try:
        return encode_cbor(document) if cbor else encode_json(document)
    except (ValueError, TypeError, OverflowError):
        return cbor2.dumps(document) if cbor or _has_bytes(document) else json.dumps(document).encode()


def _has_bytes(node: Any) -> bool:
    if isinstance(node, dict):
        return any(map(_has_bytes, node.values()))
    return isinstance(node, bytes) or (isinstance(node, list) and any(map(_has_bytes, node)))
