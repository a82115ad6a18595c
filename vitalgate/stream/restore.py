"""Puts a backup back, and makes Kafka and the database agree again.

Three cases. The Kafka survived: the workers that store go back to where they stood at the backup and read the rest
again, so nothing is lost that Kafka still has. The Kafka is new and empty: its compacted topics are filled, the audit
trail is written into it from the table, and every number made from an offset goes on where it ended. The Kafka is
neither: that is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson

from vitalgate.audit.anchors import AnchorError
from vitalgate.audit.chain import is_link
from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.config.topics import full
from vitalgate.devices.records import DeviceSequences, decode_sequences, encode
from vitalgate.storage import dump
from vitalgate.storage.audit_table import read_trail
from vitalgate.storage.connect import connect
from vitalgate.storage.errors import transient
from vitalgate.storage.ledger import high_water
from vitalgate.storage.migrate import migrate
from vitalgate.stream import kafka_state
from vitalgate.stream.anchor_file import read_anchor_file
from vitalgate.stream.audit_inbox import AuditEvent, tell_audit
from vitalgate.stream.backup import DATABASE
from vitalgate.stream.manifest import BackupError, Manifest
from vitalgate.stream.registry_forward import Brought, bring_forward
from vitalgate.stream.sequences_forward import brought_forward, stored_since

Say = Callable[[str], None]
#: Topics whose offsets have become numbers that are kept.
NUMBERED = (topics.RAW, topics.INPUTS, topics.AUDIT_INBOX)
#: More records than come between a backup and a loss. The ledger's numbers have no such gap: it would count as lost.
_BEYOND = 1 << 32
_CONNECTED = """
    SELECT DISTINCT application_name FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'vitalgate %'
        AND application_name <> 'vitalgate backup' ORDER BY 1
"""


@dataclass
class Restored:
    """What was done, and what a person has to know."""

    kafka: Literal["same", "new"]
    replayed: int = 0
    """Records that the workers read again."""
    expired: dict[str, int] = field(default_factory=dict)
    """Topic -> records that Kafka has dropped since the backup: these are lost."""
    bases: dict[str, int] = field(default_factory=dict)
    numbered: int = 0
    """Devices whose numbering was brought forward to what the database has."""
    links: int = 0
    """Records of the audit trail written into the new Kafka."""
    registry: Brought = field(default_factory=Brought)
    anchors_moved: str = ""
    """Where the anchor file went, because it knows of links that are lost."""


def put_back(
    settings: Settings, folder: Path, manifest: Manifest, *, folders: Iterable[Path] = (), replace: bool = False,
    keep_database: bool = False, new_kafka: bool = False, say: Say = lambda _: None,
) -> Restored:  # fmt: skip
    """Restore a backup whose files have been checked (`manifest.read`).

    Parameters
    ----------
    replace
        Also when the database holds something: that is gone then.
    new_kafka
        Go on also when the Kafka is a new, empty one.
    keep_database
        Only Kafka was lost: nothing of the database is touched, and the new Kafka is filled from both.

    Raises
    ------
    BackupError
        When something speaks against it; nothing was changed then.
    StorageError, TransientError, NotDeliveredError
        When the database or Kafka does not do its part: mend that and restore again, with `replace`.
    """
    held = dump.from_document(manifest.database)
    case = check(settings, manifest, held, replace=replace or keep_database)
    say(f"Kafka is {'the one of the backup' if case == 'same' else 'a new one'}")
    if case == "new" and not new_kafka:
        raise BackupError(
            "this Kafka is not the one of the backup, and empty: bring the old one back, or give --new-kafka when it "
            "is lost, and what came after the backup with it (docs/backup.md)"
        )
    if keep_database and (case == "same" or not dump.facts(settings.database).items):
        raise BackupError(
            "--keep-database is for a database that has all beside a Kafka that was lost: "
            + ("this Kafka is the one of the backup" if case == "same" else "this database is empty")
        )
    if not keep_database:
        dump.restore(settings.database, folder / DATABASE, held, folders)
        say("the database is back")
    outcome = migrate(settings.database)
    if outcome.applied:
        say(f"{len(outcome.applied)} migrations since the backup applied")
    done = Restored(case)
    if case == "same":
        _rewind(settings, manifest, done)
    else:
        _begin_anew(settings, folder, manifest, done, keep_database=keep_database)
    say(f"{done.replayed:,} records are read again" if case == "same" else f"{done.links:,} records of the audit trail")
    done.registry = bring_forward(settings)
    where = f"backup of {manifest.made_at}"
    detail = {"kafka": case, "replayed": done.replayed, "expired": done.expired, "version": manifest.version}
    event = AuditEvent("backup.restored", "database", where, datetime.now(UTC).isoformat(), detail)
    tell_audit(settings.kafka, event, "restore")
    return done


def check(settings: Settings, manifest: Manifest, held: dump.Facts, *, replace: bool) -> Literal["same", "new"]:
    """Which case it is. Raises BackupError when something speaks against a restore."""
    for name, mine, theirs in (
        ("database.db_schema", settings.database.db_schema, manifest.schema),
        ("kafka.prefix", settings.kafka.prefix, manifest.prefix),
        ("kafka.partitions", settings.kafka.partitions, manifest.partitions),
    ):
        if mine != theirs:
            raise BackupError(f"{name} is {mine!r}, the backup was taken with {theirs!r}: set it to that")
    here = dump.facts(settings.database)
    if here.items and not replace:
        raise BackupError(
            f"the database holds {here.items} rows of devices, patients, people and ledger: restore into an empty one, "
            "or give --replace to have them gone"
        )
    with transient(), connect(settings.database, "backup", autocommit=True) as connection:
        connected = [name.removeprefix("vitalgate ") for (name,) in connection.execute(_CONNECTED).fetchall()]
    if connected:
        raise BackupError(
            f"connected to the database: {', '.join(connected)}. Stop every process of ours but Kafka, PostgreSQL and "
            "the broker first; on one machine `vitalgate down`, then `vitalgate up --detach --only mqtt,kafka,postgres`"
        )
    return _case(settings, manifest)


def _case(settings: Settings, manifest: Manifest) -> Literal["same", "new"]:
    now = kafka_state.bounds(settings.kafka)
    ends = {(name, n): end for name, places in now.items() for n, (_, end) in places.items()}
    then = {(name, n): end for name, places in manifest.bounds.items() for n, (_, end) in places.items()}
    missing = [name for name in manifest.bounds if name not in now]
    if missing:
        raise BackupError(f"Kafka has no topic {', '.join(missing)}: `vitalgate topics create` makes what is missing")
    same = kafka_state.cluster_id(settings.kafka) == manifest.cluster_id
    if same and all(ends.get(place, 0) >= end for place, end in then.items()):
        return "same"
    filled = sorted({name for (name, _), end in ends.items() if end and name != topics.TICKS.name})
    if filled:
        raise BackupError(
            f"this Kafka is not the one of the backup (or lost some of it), and holds records on {', '.join(filled)}: "
            "begin with empty topics, or bring the old Kafka back"
        )
    return "new"


def _rewind(settings: Settings, manifest: Manifest, done: Restored) -> None:
    now = kafka_state.bounds(settings.kafka)
    for name in kafka_state.STORING:
        offsets = manifest.committed.get(name, {})
        kafka_state.set_committed(settings, name, offsets)
        for topic, places in offsets.items():
            for partition, offset in places.items():
                low, end = now[topic][partition]
                done.replayed += max(0, end - max(low, offset or 0))
                if gone := max(0, low - (offset or 0)):
                    done.expired[topic] = done.expired.get(topic, 0) + gone


def _begin_anew(settings: Settings, folder: Path, manifest: Manifest, done: Restored, *, keep_database: bool) -> None:
    kafka = settings.kafka
    done.bases = _bases(settings, manifest)
    entries = [
        {"key": key.encode(), "value": orjson.dumps({"base": base, "restored_at": datetime.now(UTC).isoformat()})}
        for key, base in done.bases.items()
    ]
    kafka_state.produce(kafka, topics.LOG_BASES, ({"partition": 0, **entry} for entry in entries))
    by_name = {topic.name: topic for topic in topics.ALL}
    for name in manifest.compacted:
        if keep_database and name == topics.SEQUENCES.name:
            done.numbered = _fill_sequences(settings, folder / "kafka" / f"{name}.jsonl.gz", manifest)
            continue
        kafka_state.fill_compacted(kafka, by_name[name], folder / "kafka" / f"{name}.jsonl.gz")
    last = {"n": 0}

    def trail() -> Iterator[Mapping[str, Any]]:
        for raw in read_trail(settings.database):
            last["n"] = max(last["n"], orjson.loads(raw).get("n") or 0)
            yield {"partition": 0, "value": raw}

    done.links = kafka_state.produce(kafka, topics.AUDIT, trail())
    # The table has them: the archiver need not read them again.
    ends = kafka_state.bounds(kafka)
    kafka_state.set_committed(
        settings, "archiver", {topics.AUDIT.name: {n: end for n, (_, end) in ends[topics.AUDIT.name].items()}}
    )
    done.anchors_moved = _set_anchors_aside(settings, last["n"])


def _fill_sequences(settings: Settings, file: Path, manifest: Manifest) -> int:
    """The devices' numbering of the backup, brought forward to what the database has; how many devices."""
    states: dict[int, list[DeviceSequences]] = {}
    for record in kafka_state.records_of(file):
        states.setdefault(record["partition"], []).append(decode_sequences(record["value"]))
    handed = manifest.committed["intake"][topics.RAW.name]
    count = 0
    for n, offset in handed.items():
        since = (offset or 0) + manifest.bases.get(f"{topics.RAW.name}/{n}", 0) - 1
        found = brought_forward(states.get(int(n), []), stored_since(settings, int(n), since))
        count += kafka_state.produce(
            settings.kafka, topics.SEQUENCES,
            ({"partition": int(n), "key": device.encode(), "value": encode(state)} for device, state in found.items()),
        )  # fmt: skip
    return count


def _bases(settings: Settings, manifest: Manifest) -> dict[str, int]:
    marks = high_water(settings.database, full(topics.RAW, settings.kafka))
    inbox = -1
    for raw in read_trail(settings.database):
        record = orjson.loads(raw)
        if is_link(record):
            inbox = max(inbox, record["inbox_offset"])
    found = {}
    for topic in NUMBERED:
        for n, (_, end) in manifest.bounds[topic.name].items():
            key = f"{topic.name}/{n}"
            reached = end + manifest.bases.get(key, 0)
            if topic is topics.RAW:
                reached = max(reached, marks.get(int(n), -1) + 1)
            else:  # numbers given after the backup, which nobody knows any more, must not come again
                reached = max(reached, inbox + 1 if topic is topics.AUDIT_INBOX else 0) + _BEYOND
            found[key] = reached
    return found


def _set_anchors_aside(settings: Settings, last: int) -> str:
    """The anchors of links that are lost would call the trail cut off, which it is: they stay as the proof of it."""
    file = Path(settings.audit.anchor_file) if settings.audit.anchor_file else None
    if file is None or not file.is_file():
        return ""
    with suppress(AnchorError):
        if all(anchor["n"] <= last for anchor in read_anchor_file(file)):
            return ""
    aside = file.with_name(f"{file.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    file.rename(aside)
    return str(aside)
