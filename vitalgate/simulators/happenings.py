"""A scenario's events as actions on the devices at their times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from vitalgate.simulators.clock import VirtualClock
from vitalgate.simulators.device import SentMessage, SimulatedDevice
from vitalgate.simulators.firmware import Emission
from vitalgate.simulators.fleet import Action
from vitalgate.simulators.garbage import make
from vitalgate.simulators.journal import Item
from vitalgate.simulators.scenario import EventOf

HandOver = Callable[[SimulatedDevice, str, float], None]
"""Gives a device to a patient (by the scenario's name, '' for nobody) since a virtual time."""


def actions(
    events: Sequence[EventOf], chosen: Callable[[EventOf], Sequence[SimulatedDevice]], clock: VirtualClock,
    hand_over: HandOver,
) -> list[tuple[float, Action]]:  # fmt: skip
    """What to do when.

    Parameters
    ----------
    chosen
        The devices that an event is about.
    """
    planned: list[tuple[float, Action]] = []
    for event in events:
        for device in chosen(event):
            planned.extend(_of(event, device, clock.start + event.at, clock, hand_over))
    return planned


def _of(
    event: EventOf, device: SimulatedDevice, at: float, clock: VirtualClock, hand_over: HandOver
) -> list[tuple[float, Action]]:
    match event.do:
        case "offline":
            return [(at, device.cut), (at + event.seconds, device.connect)]
        case "flaky":
            return [
                pair
                for k in range(max(1, int(event.seconds / event.every)))
                for pair in (
                    (at + k * event.every, device.cut),
                    (at + (k + 0.4) * event.every, device.connect),
                )
            ]
        case "resend":
            return [(at, lambda: _resend(device, event.count))]
        case "repeat":
            return [(at, lambda: _repeat(device, event.count, clock.now()))]
        case "correct":
            return [(at, lambda: _correct(device, event, clock.now()))]
        case "retract":
            return [(at, lambda: _retract(device, event, clock.now()))]
        case "garbage":
            return [(at + 0.01 * k, partial(_garbage, device, event.what, k, clock)) for k in range(event.count)]
        case "sensor-off":
            device.firmware.off.append((at, at + event.seconds))
            return []
        case "low-battery":
            return [(at, lambda: _low_battery(device, event, clock.now()))]
        case "hand-over":
            since = clock.start + (event.at if event.from_s is None else event.from_s)
            return [(at, lambda: hand_over(device, event.to, since))]


def _garbage(device: SimulatedDevice, what: str, number: int, clock: VirtualClock) -> None:
    device.take(make(what, device.firmware.kind, number, clock.now()))


def _sent(device: SimulatedDevice, metric: str = "") -> list[SentMessage]:
    """Messages of readings that were sent as measured, newest first; of one metric when it is given."""
    return [
        sent
        for sent in reversed(device.remembered)
        if sent.emission.leaf == "readings"
        and not sent.emission.note
        and any(item.value is not None and metric in ("", item.metric) for item in sent.emission.items)
    ]


def _resend(device: SimulatedDevice, count: int) -> None:
    for sent in list(reversed(device.remembered))[:count]:
        device.resend(sent)


def _repeat(device: SimulatedDevice, count: int, now: float) -> None:
    untouched = [sent for sent in _sent(device) if sent.key not in device.corrected]
    for sent in untouched[:count]:
        items = [replace(item, expect="duplicate") for item in sent.emission.items]
        device.take(Emission(now, "readings", sent.emission.document, items, "repeat"))


def _pick(sent: SentMessage, metric: str) -> tuple[int, Item]:
    return next(
        (place, item)
        for place, item in enumerate(sent.emission.items)
        if item.value is not None and metric in ("", item.metric)
    )


def _correct(device: SimulatedDevice, event: EventOf, now: float) -> None:
    for sent in _sent(device, event.metric)[: event.count]:
        place, item = _pick(sent, event.metric)
        assert item.value is not None
        value = event.value if event.value is not None else round(item.value + (event.change or 0.0), 3)
        reading = {**sent.emission.document["readings"][place], "value": value}
        if sent.key is not None:
            device.corrected.add(sent.key)
            reading["corrects"] = {"epoch": sent.key[0], "seq": sent.key[1], "index": place}
        corrected = replace(item, expect="version", value=value, item=None)
        device.take(Emission(now, "readings", {"readings": [reading]}, [corrected], "correct"))


def _retract(device: SimulatedDevice, event: EventOf, now: float) -> None:
    for sent in _sent(device, event.metric)[: event.count]:
        place, item = _pick(sent, event.metric)
        reading = {key: value for key, value in sent.emission.document["readings"][place].items() if key != "value"}
        corrects: dict[str, object] = {"time": reading["time"]}
        if sent.key is not None:
            device.corrected.add(sent.key)
            corrects = {"epoch": sent.key[0], "seq": sent.key[1], "index": place}
        reading["corrects"] = {**corrects, "retract": True}
        gone = replace(item, expect="retracted", value=None, item=None)
        device.take(Emission(now, "readings", {"readings": [reading]}, [gone], "retract"))


def _low_battery(device: SimulatedDevice, event: EventOf, now: float) -> None:
    device.firmware.battery = 9.0 if event.value is None else event.value
    metric = device.firmware.kind.metrics.get("battery")
    if metric is not None:
        reading, item = device.firmware.reading(metric, device.firmware.battery, now)
        device.take(Emission(now, "readings", {"readings": [reading]}, [item], "low-battery"))
