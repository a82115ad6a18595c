"""Verify the audit trail, or follow it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitalgate.cli._context import Failure, Misuse, json_option, print_json, settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


@click.group()
def command() -> None:
    """The audit trail: who did what, when, on what; verify that nobody changed it, or follow it."""


@command.command()
@click.option("--table", is_flag=True, help="Read the database table instead of the Kafka topic.")
@click.option(
    "--key", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Public (or private) Ed25519 key, PEM, that checkpoints must be signed with; default audit.signing_key_file.",
)  # fmt: skip
@json_option
def verify(table: bool, key: Path | None, as_json: bool) -> None:
    """Recompute the hash chain and name the first broken link; exit 1 when it is broken.

    Read with --table too: what was changed in one place only shows in the other, and a table whose newest events were
    cut off ends before the topic does.
    """
    from vitalgate.audit.chain import verify as check
    from vitalgate.audit.checkpoints import good_signature

    trusted = _trusted(key)
    records = _from_table() if table else _from_topic()
    verdict = check(records, (lambda record: good_signature(record, trusted)) if trusted else None)
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
    if broken is not None:
        raise Failure(f"the audit trail is broken at link {broken.n}: {broken.why}")


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
            click.echo(f"{record['n']:>8}  checkpoint signed by key {record['key_id']}")
        else:
            what = f"{record.get('action', '')} {record.get('entity_type', '')} {record.get('entity_id', '')}"
            who = f"{record.get('who', '')} at {record.get('where', '')}"
            click.echo(f"{record['n']:>8}  {record.get('when', '')}  {who}  {what}  {record.get('outcome', '')}")
        if count is not None and shown >= count:
            return


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
    import json

    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaError

    from vitalgate.config.topics import AUDIT, full

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
                try:
                    yield json.loads(record.value)
                except ValueError:
                    yield {"n": None, "hash": None}
    except KafkaError as error:
        raise Failure(f"{full(AUDIT, kafka)} cannot be read: {error}; `vitalgate topics create` makes it") from error
    finally:
        consumer.close()


def _from_table() -> Iterator[dict[str, Any]]:
    import json

    from vitalgate.storage.audit_table import read_trail
    from vitalgate.storage.errors import StorageError

    try:
        for raw in read_trail(settings().settings.database):
            yield json.loads(raw)
    except StorageError as error:
        raise Failure(str(error)) from error
