"""Messages a second to committed rows with every worker running, beside a bare subscriber on the same broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from benchmarks import load, processes
from benchmarks.bare_subscriber import BareProcess
from benchmarks.bed import BARE, CONNECTIONS, Bed, now
from benchmarks.committed import CommitWatch, balanced
from benchmarks.generator import Connection, Sent, send

#: Messages are made beforehand for so many a second: what lasts `--seconds` at the rate that is aimed at.
AIM = 5000
AIM_RATIO = 0.2
PATCHES, OXIMETERS = 200, 800
_PATIENCE_S = 60.0
#: Part of the messages, sent first to warm up.
_WARM = 0.1


def publish(bed: Bed, messages: load.Departures, count: int, rate: float | None) -> Sent:
    """Publish over some connections."""
    mqtt = bed.settings.mqtt
    with ExitStack() as open_:
        connections = []
        for number in range(CONNECTIONS):
            connection = Connection(mqtt.host, mqtt.port, f"bench-{number}", bed.username, bed.password)
            open_.callback(connection.close)
            connections.append(connection)
        return send(connections, iter(messages), count, rate)


def run(bed: Bed, seconds: float, scale: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """The section."""
    count = max(200, int(seconds * AIM * scale))
    warm = int(count * _WARM)
    patches, oximeters = load.cast("t", max(2, int(PATCHES * scale)), max(8, int(OXIMETERS * scale)))
    span = timedelta(seconds=load.span_s(count + warm, len(patches), len(oximeters)) + 60)
    tell(f"registering {len(patches) + len(oximeters)} patients and devices, writing {count} messages")
    start = now() - span
    bed.enrol([*patches, *oximeters], start - timedelta(minutes=1))
    messages = load.mixed(patches, oximeters, count + warm, "t1", start)
    with CommitWatch(bed.settings, 0.05) as watch:
        publish(bed, load.Departures(messages[:warm]), warm, AIM / 10)
        watch.wait(warm, _PATIENCE_S)
    tell("publishing as fast as the broker takes it")
    measured = load.Departures(messages[warm:])
    with CommitWatch(bed.settings, 0.05) as watch:
        before = processes.cpu_seconds(bed.stack)
        sent = publish(bed, measured, count, None)
        watch.wait(count, _PATIENCE_S)
    after = processes.cpu_seconds(bed.stack)
    first = min(measured.sent.values())
    took = watch.last() - first
    is_balanced = balanced(bed.settings)
    tell("the same messages to a bare subscriber")
    bare = _bare(bed, messages[warm:], count)
    readings = sum(message.readings for message in messages[warm:])
    rate = count / took
    return {
        "messages": count,
        "readings": readings,
        "ecg_packets": sum(message.packets for message in messages[warm:]),
        "patients": len(patches) + len(oximeters),
        "seconds": round(took, 2),
        "messages_per_s": round(rate, 1),
        "readings_per_s": round(readings / took, 1),
        "middle_messages_per_s": round(watch.middle_rate(), 1),
        "published_per_s": round(sent.messages / sent.seconds, 1),
        "acknowledged": sent.acknowledged,
        "balanced": is_balanced,
        "bare_per_s": round(bare, 1),
        "ratio": round(rate / bare, 3) if bare else None,
        "cpu_ms_per_1000": {k: round(v, 1) for k, v in processes.per_thousand(before, after, count).items()},
    }


def _bare(bed: Bed, messages: Sequence[load.Message], count: int) -> float:
    """Messages a second from the first publish until the bare subscriber had them all."""
    renamed = load.Departures(
        [load.Message(m.device, m.seq, m.topic.replace("v1/devices", BARE, 1), m.payload) for m in messages]
    )
    mqtt = bed.settings.mqtt
    with BareProcess(mqtt.host, mqtt.port, bed.username, bed.password, f"{BARE}/#", count) as process:
        publish(bed, renamed, count, None)
        found = process.result()
    took = found["last"] - min(renamed.sent.values())
    return found["count"] / took if took > 0 else 0.0


def text(found: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [
        f"{found['messages']:,} messages of {found['patients']:,} patients: {found['readings']:,} readings, "
        f"{found['ecg_packets']:,} ECG packets, 1 % of the readings' messages corrections",
        f"committed rows      {found['messages_per_s']:>9,.0f} messages/s   {found['readings_per_s']:>9,.0f} readings/s"
        f"   (aim {AIM:,} messages/s)",
        f"in the middle half  {found['middle_messages_per_s']:>9,.0f} messages/s",
        f"bare subscriber     {found['bare_per_s']:>9,.0f} messages/s   ratio {found['ratio']} (aim {AIM_RATIO})",
        f"ledger              {'balanced' if found['balanced'] else 'NOT BALANCED'}",
        "CPU ms per 1,000 messages:",
    ]
    table = found["cpu_ms_per_1000"]
    lines += [f"  {name:<20}{value:>8.1f}" for name, value in table.items() if value >= 0.05]
    lines.append(f"  {'all':<20}{sum(table.values()):>8.1f}")
    return lines
