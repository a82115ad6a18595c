"""Verify the audit trail, or follow it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitalgate.cli._context import Failure, Misuse, json_option, print_json, settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


@click.group()
def command() -> None:
    """The audit trail: who did what, when, on what; verify that nobody changed it, anchor it, or follow it."""


@command.command()
@click.option("--table", is_flag=True, help="Read the database table instead of the Kafka topic.")
@click.option(
    "--key", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Public (or private) Ed25519 key, PEM, that checkpoints must be signed with; default audit.signing_key_file.",
)  # fmt: skip
@click.option(
    "--anchor", "anchors", type=click.Path(path_type=Path, exists=True, dir_okay=False), multiple=True, metavar="FILE",
    help="A file of anchors (`vitalgate audit anchor FILE`) that the trail must agree with; may be repeated. The "
    "auditor's own file (audit.anchor_file) and the anchors in the database are always asked, where they are there.",
)  # fmt: skip
@click.option(
    "--wait", type=click.FloatRange(min=0), default=10.0, show_default=True, metavar="SECONDS",
    help="With --table: how long to wait for the archiver when the table ends before the newest anchor.",
)  # fmt: skip
@json_option
def verify(table: bool, key: Path | None, anchors: tuple[Path, ...], wait: float, as_json: bool) -> None:
    """Recompute the hash chain and name the first broken link; exit 1 when it is broken.

    Read with --table too: what was changed in one place only shows in the other. A trail whose end was cut off, or
    that was put back from an old copy, holds in itself: it is found by anchors, signed checkpoints kept elsewhere.
    """
    from vitalgate.audit.chain import verify as check
    from vitalgate.audit.checkpoints import good_signature

    trusted = _trusted(key)
    good = (lambda record: good_signature(record, trusted)) if trusted else None
    known, asked = _anchors(anchors, table=table)
    read: Callable[[], Iterator[dict[str, Any]]] = _from_table if table else _from_topic
    until = time.monotonic() + (wait if table else 0)
    verdict = check(read(), good, known, whole=True)
    while verdict.behind and time.monotonic() < until:
        time.sleep(0.5)
        verdict = check(read(), good, known, whole=True)
    broken = verdict.broken
    if as_json:
        print_json(
            {
                "ok": broken is None,
                "source": "table" if table else "topic",
                "first": verdict.first,
                "last": verdict.tip.n,
                "hash": verdict.tip.hash,
                "checkpoints": verdict.checkpoints,
                "signed_through": verdict.signed_through,
                "signatures_checked": trusted is not None,
                "repeats": verdict.repeats,
                "anchors": {"agreed": verdict.anchors, "known": len(known), "from": asked},
                "broken": None if broken is None else {"n": broken.n, "why": broken.why},
            }
        )
    elif broken is None:
        signed = (
            f"{verdict.checkpoints} signed checkpoints, the newest over link {verdict.signed_through}"
            if trusted
            else "signatures not checked: give --key, or set audit.signing_key_file"
        )
        click.echo(f"The chain holds: links {verdict.first} to {verdict.tip.n}; {signed}.")
        for name, found in asked.items():
            click.echo(f"  anchors in {name}: {found if isinstance(found, str) else f'{found} agree'}")
    if broken is not None:
        late = ", or the archiver is behind (`vitalgate status`)" if table and verdict.behind else ""
        raise Failure(f"the audit trail is broken at link {broken.n}: {broken.why}{late}")


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--key", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Ed25519 key, PEM; default audit.signing_key_file. A private one signs the newest link, a public one checks.",
)  # fmt: skip
@json_option
def anchor(file: Path, key: Path | None, as_json: bool) -> None:
    """Add an anchor to FILE: the newest link of the trail, signed. Keep FILE where the trail's owners cannot reach it.

    The trail is verified first. Who holds the signing key signs the newest link; others, such as an auditor with the
    public key alone, take the newest checkpoint that is in the trail.
    """
    from vitalgate.audit.anchors import AnchorError
    from vitalgate.audit.chain import Verifier, tip_of
    from vitalgate.audit.checkpoints import good_signature, sign
    from vitalgate.stream.anchor_file import add_to_file

    private, trusted = _private(key), _trusted(key)
    verifier = Verifier(
        (lambda record: good_signature(record, trusted)) if trusted else None, _anchors(())[0], whole=True
    )
    last: dict[str, Any] | None = None
    checkpoint: dict[str, Any] | None = None
    for record in _from_topic():
        if verifier.take(record):
            break
        if record.get("checkpoint"):
            checkpoint = record if checkpoint is None or record["n"] >= checkpoint["n"] else checkpoint
        else:
            last = record
    if broken := verifier.verdict().broken:
        raise Failure(f"the audit trail is broken at link {broken.n}, so it is not anchored: {broken.why}")
    if private is not None and last is not None:
        checkpoint = sign(private, tip_of(last), last.get("when"))
    if checkpoint is None:
        raise Failure("the trail has no link and no signed checkpoint yet: there is nothing to anchor")
    try:
        held = add_to_file(file, checkpoint)
    except AnchorError as error:
        raise Misuse(str(error)) from error
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}") from error
    if as_json:
        print_json({**checkpoint, "file": str(file), "held": held})
    else:
        click.echo(
            f"Link {checkpoint['n']} ({checkpoint['hash'][:16]}…) is anchored in {file}, which holds {held} anchors."
        )


@command.command()
@json_option
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many events.")
@click.option("--from-beginning", is_flag=True, help="Begin with the first event kept.")
@click.option("--follow/--no-follow", default=True, help="Wait for more, or stop at the present end.")
def tail(as_json: bool, count: int | None, from_beginning: bool, follow: bool) -> None:
    """Follow the audit trail, one event a line."""
    import json

    for shown, record in enumerate(_from_topic(from_beginning=from_beginning, follow=follow), 1):
        if as_json:
            click.echo(json.dumps(record, separators=(",", ":")))
        elif record.get("checkpoint"):
            click.echo(f"{record.get('n')!s:>8}  checkpoint signed by key {record.get('key_id')}")
        else:
            what = f"{record.get('action', '')} {record.get('entity_type', '')} {record.get('entity_id', '')}"
            who = f"{record.get('who', '')} at {record.get('where', '')}"
            click.echo(f"{record.get('n')!s:>8}  {record.get('when', '')}  {who}  {what}  {record.get('outcome', '')}")
        if count is not None and shown >= count:
            return


def _anchors(files: tuple[Path, ...], *, table: bool = False) -> tuple[list[dict[str, Any]], dict[str, int | str]]:
    """All anchors there are, and how many each place gave, or why it gave none."""
    from vitalgate.audit.anchors import AnchorError
    from vitalgate.storage.audit_table import read_anchors
    from vitalgate.storage.errors import StorageError
    from vitalgate.stream.anchor_file import read_anchor_file

    loaded = settings().settings
    asked: dict[str, int | str] = {}
    found: list[dict[str, Any]] = []
    own = Path(loaded.audit.anchor_file) if loaded.audit.anchor_file else None
    for file in (*files, *([own] if own and own not in files and own.exists() else [])):
        try:
            here = read_anchor_file(file)
        except AnchorError as error:
            raise Failure(str(error)) from error
        except OSError as error:
            raise Failure(f"{file} cannot be read: {error.strerror}") from error
        asked[str(file)] = len(here)
        found += here
    if loaded.database.dsn:
        try:
            here = read_anchors(loaded.database)
        except AnchorError as error:
            raise Failure(str(error)) from error
        except StorageError as error:
            if table:
                raise Failure(str(error)) from error
            asked["the database"] = f"not asked: {error}"
        else:
            asked["the database"] = len(here)
            found += here
    return found, asked


def _private(key: Path | None) -> Ed25519PrivateKey | None:
    """The signing key, when it is there for us to read."""
    from vitalgate.audit.checkpoints import load_private

    file = key or (Path(name) if (name := settings().settings.audit.signing_key_file) else None)
    try:
        pem = file.read_bytes() if file else b""
        return load_private(pem) if b"PRIVATE KEY" in pem else None
    except (OSError, ValueError):
        return None  # _trusted complains of it


def _trusted(key: Path | None) -> Ed25519PublicKey | None:
    from vitalgate.audit.checkpoints import load_public

    file = key or (Path(name) if (name := settings().settings.audit.signing_key_file) else None)
    if file is None:
        return None
    try:
        return load_public(file.read_bytes())
    except OSError as error:
        if key is None:
            return None  # whoever verifies need not hold the signer's key
        raise Misuse(f"the key {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Misuse(f"the key {file} cannot be used: {error}") from error


def _from_topic(*, from_beginning: bool = True, follow: bool = False) -> Iterator[dict[str, Any]]:
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaError

    from vitalgate.config.topics import AUDIT, full
    from vitalgate.stream.audit_tip import read_record

    kafka = settings().settings.kafka
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=kafka.bootstrap.split(","), enable_auto_commit=False, consumer_timeout_ms=500
        )
    except KafkaError as error:
        raise Failure(f"Kafka at {kafka.bootstrap} (kafka.bootstrap) does not answer: {error}") from error
    try:
        where = TopicPartition(full(AUDIT, kafka), 0)
        consumer.assign([where])
        end = consumer.end_offsets([where])[where]
        consumer.seek_to_beginning(where) if from_beginning else consumer.seek(where, end)
        while follow or consumer.position(where) < end:
            for record in consumer:
                yield read_record(record.value)
                if not follow and record.offset >= end - 1:
                    return
    except KafkaError as error:
        raise Failure(f"{full(AUDIT, kafka)} cannot be read: {error}; `vitalgate topics create` makes it") from error
    finally:
        consumer.close()


def _from_table() -> Iterator[dict[str, Any]]:
    from vitalgate.storage.audit_table import read_trail
    from vitalgate.storage.errors import StorageError
    from vitalgate.stream.audit_tip import read_record

    try:
        for raw in read_trail(settings().settings.database):
            yield read_record(raw)
    except StorageError as error:
        raise Failure(str(error)) from error
