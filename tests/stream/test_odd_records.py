"""Records that somebody else wrote to our topics are left out where workers read them at a start."""

from __future__ import annotations

import msgspec
import orjson
import pytest

from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import REGISTRY_ASSIGNMENTS, REGISTRY_DEVICES, REGISTRY_PATIENTS, full
from vitalgate.gateway.notify_heartbeat import _time_of
from vitalgate.storage.log_base import _entry
from vitalgate.stream.analysis import _readable
from vitalgate.stream.registry_view import RegistryView
from vitalgate.stream.worker import Record

ODD = (
    b"", b"\xff\xfe", b"null", b"5", b'"text"', b"[]", b"{}", b"[1,2]", b'{"n":', b"[" * 5000,
    orjson.dumps({"kind": [], "state": {}, "change": "x", "assignments": 5, "zones": [5], "base": "1", "time_us": []}),
    orjson.dumps({"kind": "a", "state": "active", "sample_rate": "1/0", "revoked_at": "never"}),
    orjson.dumps({"assignments": [{"id": "x", "patient": None, "from": 7}]}), msgspec.msgpack.encode([1, "x"]),
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("topic", [REGISTRY_DEVICES, REGISTRY_ASSIGNMENTS, REGISTRY_PATIENTS], ids=lambda t: t.name)
def test_the_registry_leaves_out_what_it_cannot_read(topic: object, odd: bytes) -> None:
    kafka = KafkaSettings()
    view = RegistryView(kafka)
    for key in (b"", b"\xff\xfe", b"somebody", None):
        view._entry(full(topic, kafka), key, odd, 7)  # type: ignore[arg-type]  # what it raises would end the process
    good = {"device": "d", "kind": "thermometer", "state": "active", "change": 1}
    view._entry(full(REGISTRY_DEVICES, kafka), b"d", orjson.dumps(good), 8)
    assert view.devices["d"].kind == "thermometer"


@pytest.mark.parametrize("odd", ODD)
def test_ticks_bases_and_results_are_read_past_them(odd: bytes) -> None:
    assert _time_of(odd) is None
    assert _entry(b"device.raw/0", odd) is None and _entry(b"\xff", odd) is None
    records = [
        Record("patient.beats", 0, at, None, value, [], 0) for at, value in enumerate((odd, b'{"name":"ours"}', odd))
    ]
    assert {"name": "ours"} in list(_readable(records))


def test_what_is_ours_is_read() -> None:
    assert _time_of(b'{"time_us":5}') == 5
    assert _entry(b"device.raw/3", b'{"base":70}') == ("device.raw", 3, 70)
    assert _entry(b"device.raw/3", b'{"base":-1}') is None
