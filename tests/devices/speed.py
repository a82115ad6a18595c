"""CPU time of the pure intake step, on one core: ``python -m tests.devices.speed``."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable
from typing import Any

from vitalgate.devices import catalogue, sequences
from vitalgate.devices.codec import encode_cbor, encode_json
from vitalgate.devices.intake import RawRecord, RegisteredDevice, take
from vitalgate.devices.records import DeviceSequences, encode

from .support import NOW, SECOND, SETTINGS, at

_CHANCE = random.Random(1)
_ECG = [round(200 * math.sin(n / 5) + _CHANCE.gauss(0, 8)) for n in range(250)]


def three_readings(n: int) -> dict[str, Any]:
    """What a pulse oximeter sends once a second."""
    values = (("spo2", 97, "%"), ("pulse_rate", 71, "/min"), ("perfusion_index", 4.2, "%"))
    readings = [{"metric": metric, "value": value, "unit": unit, "time": at(n)} for metric, value, unit in values]
    return {"epoch": "k3f9", "seq": n + 1, "sent_at": at(n), "readings": readings}


def packet(n: int) -> dict[str, Any]:
    """A second of an ECG at 250 Hz."""
    block = {"channel": "ecg.II", "recording": "r1", "first_sample": 250 * n, "start": at(n), "rate": 250, "gain": 200,
             "offset": 0, "unit": "mV", "samples": _ECG}  # fmt: skip
    return {"epoch": "k3f9", "seq": n + 1, "sent_at": at(n), "waveforms": [block]}


def unnumbered(n: int) -> dict[str, Any]:
    """The same without recording and first sample."""
    document = packet(n)
    del document["waveforms"][0]["recording"], document["waveforms"][0]["first_sample"]
    return document


CASES: list[tuple[str, str, str, Callable[[int], dict[str, Any]], Callable[[Any], bytes]]] = [
    ("3 readings, JSON", "pulse-oximeter", "readings", three_readings, encode_json),
    ("3 readings, CBOR", "pulse-oximeter", "readings", three_readings, encode_cbor),
    ("250 ECG samples, JSON", "ecg-patch", "waveforms", packet, encode_json),
    ("250 ECG samples, CBOR packed", "ecg-patch", "waveforms", packet, encode_cbor),
    ("250 ECG samples, JSON, not numbered", "ecg-patch", "waveforms", unnumbered, encode_json),
]


def cost(
    kind: str, leaf: str, document: Callable[[int], dict[str, Any]], form: Callable[[Any], bytes], messages: int = 2000,
    rounds: int = 5,
) -> tuple[float, int]:  # fmt: skip
    """(CPU microseconds a message in the best of some rounds, bytes of a message)."""
    device, kinds = RegisteredDevice("d1", kind), catalogue.load()
    raws = [
        RawRecord(0, n, form(document(n)), f"v1/devices/d1/{leaf}", NOW + n * SECOND + 30_000, "0" * 32)
        for n in range(messages)
    ]
    best = math.inf
    for _ in range(rounds):
        state: DeviceSequences | None = None
        gc.collect()
        gc.disable()
        start = time.process_time()
        for raw in raws:
            message, state = take(raw, device, state and sequences.begin(state), kinds, SETTINGS)
            encode(message)
        best = min(best, time.process_time() - start)
        gc.enable()
        assert not message.dead
    return best / messages * 1e6, len(raws[0].value)


if __name__ == "__main__":
    for title, kind, leaf, document, form in CASES:
        spent, size = cost(kind, leaf, document, form)
        print(f"{title:38} {size:5d} bytes  {spent:5.1f} us")
