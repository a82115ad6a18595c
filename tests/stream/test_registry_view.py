"""The registry view: read to the end at start, refreshed on demand, whose device it was at any time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from confluent_kafka import Producer

from tests.stream.stream_probe import MakeSettings
from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings
from vitalgate.stream.registry_view import RegistryView

REGISTRY = (topics.REGISTRY_DEVICES, topics.REGISTRY_ASSIGNMENTS, topics.REGISTRY_PATIENTS)
SECOND = 1_000_000


def put(kafka: KafkaSettings, topic: topics.Topic, key: str, body: dict[str, Any] | None) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(topics.full(topic, kafka), None if body is None else json.dumps(body), key)
    producer.flush()


def device(name: str, change: int, state: str = "active") -> dict[str, Any]:
    return {"device": name, "kind": "ecg-patch", "state": state, "serial": "s", "firmware": "f", "change": change}


def test_view_is_complete_at_start_and_refresh_sees_what_was_just_written(make_settings: MakeSettings) -> None:
    kafka = make_settings(*REGISTRY).kafka
    for n in range(50):
        put(kafka, topics.REGISTRY_DEVICES, f"d{n}", device(f"d{n}", n + 1))
    put(kafka, topics.REGISTRY_PATIENTS, "p1", {
        "patient": "p1", "change": 1, "team": "care", "overrides": {},
        "zones": [{"from": None, "zone": "Europe/Berlin"}, {"from": "2026-01-01T00:00:00Z", "zone": "Europe/Paris"}],
    })  # fmt: skip

    async def main() -> None:
        view = RegistryView(kafka)
        await view.ready()
        assert len(view.devices) == 50
        patient = view.patient("p1")
        assert patient is not None
        assert [zone for _, zone in patient.zones] == ["Europe/Berlin", "Europe/Paris"]
        changed: list[tuple[str, str]] = []
        view.on_change(lambda kind, key: changed.append((kind, key)))
        assert view.device("new") is None
        await asyncio.to_thread(put, kafka, topics.REGISTRY_DEVICES, "new", device("new", 99))
        began = asyncio.get_running_loop().time()
        await view.refresh()
        took = asyncio.get_running_loop().time() - began
        assert view.device("new") is not None
        assert took < 0.5
        await asyncio.to_thread(put, kafka, topics.REGISTRY_DEVICES, "new", None)
        await view.refresh()
        await asyncio.sleep(0.01)
        assert view.device("new") is None
        assert changed == [("device", "new"), ("device", "new")]
        view.close()

    asyncio.run(main())


def test_an_older_change_and_an_unreadable_entry_do_no_harm(make_settings: MakeSettings) -> None:
    kafka = make_settings(*REGISTRY).kafka
    put(kafka, topics.REGISTRY_DEVICES, "d", device("d", 8, "revoked"))
    put(kafka, topics.REGISTRY_DEVICES, "d", device("d", 7))
    put(kafka, topics.REGISTRY_DEVICES, "x", {"nothing": "known"})
    put(kafka, topics.REGISTRY_DEVICES, "e", device("e", 9))

    async def main() -> None:
        view = RegistryView(kafka)
        await view.ready()
        found = view.device("d")
        assert found is not None
        assert found.revoked
        assert view.device("x") is None
        assert view.device("e") is not None
        view.close()

    asyncio.run(main())


def test_the_patient_at_a_time(make_settings: MakeSettings) -> None:
    kafka = make_settings(*REGISTRY).kafka
    put(kafka, topics.REGISTRY_ASSIGNMENTS, "d", {
        "device": "d", "change": 1,
        "assignments": [
            {"id": 2, "patient": "p2", "from": "1970-01-01T00:00:30Z", "to": None},
            {"id": 1, "patient": "p1", "from": "1970-01-01T01:00:10+01:00", "to": "1970-01-01T00:00:20Z"},
        ],
    })  # fmt: skip

    async def main() -> None:
        view = RegistryView(kafka)
        await view.ready()
        at = {second: view.patient_at("d", second * SECOND) for second in (9, 10, 19, 20, 29, 30, 10**6)}
        assert at == {9: None, 10: "p1", 19: "p1", 20: None, 29: None, 30: "p2", 10**6: "p2"}
        assert view.patient_at("other", 0) is None
        view.close()

    asyncio.run(main())
