"""Create the Kafka topics, list what they are for, and give the rights to them."""

from __future__ import annotations

import click

from vitalgate.cli._context import Failure, json_option, print_json, settings


@click.group()
def command() -> None:
    """Kafka topics: create the missing ones, list all with key, shape and purpose, and who may use them."""


@command.command()
@json_option
def create(as_json: bool) -> None:
    """Create the topics that are missing; those that are there stay as they are."""
    from kafka.errors import KafkaError

    from vitalgate.local.topics import create_topics

    kafka = settings().settings.kafka
    try:
        created = create_topics(kafka)
    except KafkaError as error:
        raise Failure(f"topics could not be created at {kafka.bootstrap} (kafka.bootstrap): {error}") from error
    if as_json:
        print_json({"created": created})
    else:
        click.echo("\n".join(created) if created else "All topics are there.")


@command.command()
@click.option("--apply", "do_apply", is_flag=True, help="Give them in Kafka, and take away all others.")
@json_option
def rights(do_apply: bool, as_json: bool) -> None:
    """List who may do what in Kafka: one least-privilege table for all processes; or give these rights.

    Who connects must be one of the cluster's super.users. A process is known by its certificate's name
    (`vitalgate ca issue service intake`) or by its SASL user.
    """
    from dataclasses import asdict

    from vitalgate.config.kafka_rights import rights as table
    from vitalgate.local.errors import StackError

    kafka = settings().settings.kafka
    rows = table(kafka)
    done = {}
    if do_apply:
        from vitalgate.local.rights import apply_rights

        try:
            added, removed = apply_rights(kafka)
        except StackError as error:
            raise Failure(str(error)) from error
        done = {"added": added, "removed": removed}
    if as_json:
        print_json({"rights": [asdict(row) for row in rows], **done})
        return
    for row in rows if not do_apply else ():
        click.echo(f"{row.who:<10} {row.operation:<8} {row.resource:<5} {row.name}{'*' if row.prefixed else ''}")
    if do_apply:
        click.echo(f"{len(rows)} rights: {done['added']} given, {done['removed']} taken away.")


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the topics of this deployment."""
    from vitalgate.config.topics import ALL, full

    kafka = settings().settings.kafka
    rows = [
        {
            "name": full(topic, kafka),
            "key": topic.key,
            "visibility": topic.visibility,
            "compacted": topic.compacted,
            "partitions": topic.partitions or kafka.partitions,
            "what": topic.what,
        }
        for topic in ALL
    ]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            click.echo(f"{row['name']:<24} {row['key']:<10} {row['partitions']:>3} {row['what']}")
