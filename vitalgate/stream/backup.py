"""Takes a backup: Kafka's offsets and compacted topics first, then the database, so that replaying closes the gap.

The order is what makes it whole. Everything that was in Kafka before the offsets were read is either in the dump or is
read again from these offsets; what is read twice changes nothing. When the Kafka is lost as well, the dump and the
compacted topics must agree by themselves: so the dump waits until the recorder has stored all that Kafka held.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import vitalgate
from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.config.topics import full
from vitalgate.storage import dump
from vitalgate.storage.ledger import high_water
from vitalgate.storage.log_base import read_bases
from vitalgate.stream import kafka_state
from vitalgate.stream.manifest import BackupError, Manifest, keys_of

DATABASE = "database.dump"
Say = Callable[[str], None]


def take(
    settings: Settings, target: Path, *, folders: Iterable[Path] = (), with_keys: bool = False, wait_s: float = 30.0,
    more: Mapping[str, str] | None = None, say: Say = lambda _: None,
) -> Manifest:  # fmt: skip
    """Write a backup into a folder that is not there yet; it appears when it is whole.

    Parameters
    ----------
    folders
        Where to look for pg_dump before the PATH is looked at.
    with_keys
        Copy keys and passwords too; without it the manifest names them.
    wait_s
        How long the dump waits for the recorder to catch up.
    more
        Further files of secrets by name, such as the broker's users.
    say
        Told of each step.

    Raises
    ------
    BackupError
        When the folder is there already, or a file cannot be written.
    StorageError, TransientError
        When the database or Kafka does not answer, or pg_dump fails.
    """
    if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        raise BackupError(f"{target} is there already: give a new folder, so that no backup takes another's place")
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        (part / "kafka").mkdir(parents=True)
        part.chmod(0o700)
        manifest = _take(settings, part, folders, with_keys, wait_s, {**keys_of(settings), **(more or {})}, say)
        manifest.write(part)
        if target.is_dir():
            target.rmdir()
        part.replace(target)
    except OSError as error:
        raise BackupError(f"the backup cannot be written to {target}: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def _take(
    settings: Settings, part: Path, folders: Iterable[Path], with_keys: bool, wait_s: float, keys: Mapping[str, str],
    say: Say,
) -> Manifest:  # fmt: skip
    kafka = settings.kafka
    known = dump.facts(settings.database)
    if not known.form:
        raise BackupError("the database holds nothing of ours yet: there is nothing to back up (`vitalgate migrate`)")
    bases = read_bases(kafka)
    bounds = kafka_state.bounds(kafka)
    if (there := len(bounds.get(topics.RAW.name, {}))) != kafka.partitions:
        raise BackupError(
            f"kafka.partitions is {kafka.partitions}, but {full(topics.RAW, kafka)} has {there}: give the settings "
            "that the system runs with"
        )
    manifest = Manifest(
        datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"), vitalgate.__version__,
        settings.database.db_schema, kafka.prefix, kafka.partitions, kafka_state.cluster_id(kafka),
        dump.as_document(known), bounds, kafka_state.committed(settings), bases.document(), False,
        dict(keys),
    )  # fmt: skip
    say("where Kafka stands")
    for topic in kafka_state.compacted():
        if topic.name in manifest.bounds:
            file = part / "kafka" / f"{topic.name}.jsonl.gz"
            manifest.compacted[topic.name] = kafka_state.dump_compacted(kafka, topic, file)
    say(f"{sum(manifest.compacted.values())} records of {len(manifest.compacted)} compacted topics")
    ends = {int(n): end for n, (low, end) in manifest.bounds.get(topics.RAW.name, {}).items() if end > low}
    wanted = bases.ends(topics.RAW, ends)
    until = time.monotonic() + wait_s
    while not (settled := _stored(settings, wanted)) and time.monotonic() < until:
        time.sleep(0.2)
    manifest.settled = settled
    dump.dump(settings.database, part / DATABASE, known, folders)
    say(f"the database, {(part / DATABASE).stat().st_size:,} bytes")
    if with_keys:
        manifest.copied = _copy_keys(part / "keys", keys)
        say(f"{len(manifest.copied)} keys and passwords")
    return manifest


def _stored(settings: Settings, wanted: Mapping[int, int]) -> bool:
    marks = high_water(settings.database, full(topics.RAW, settings.kafka))
    return all(marks.get(partition, -1) >= end - 1 for partition, end in wanted.items())


def _copy_keys(folder: Path, keys: Mapping[str, str]) -> dict[str, str]:
    folder.mkdir(mode=0o700)
    copied = {}
    for name, path in keys.items():
        source = Path(path)
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.is_file():
            shutil.copyfile(source, folder / name)
            (folder / name).chmod(0o600)
        else:
            raise BackupError(f"{name} names {path}, which is not there: it cannot be copied")
        copied[name] = f"keys/{name}"
    return copied
