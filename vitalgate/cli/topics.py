"""Create the Kafka topics, or list what they are for."""

from __future__ import annotations

import click

from vitalgate.cli._context import Failure, json_option, print_json, settings


@click.group()
def command() -> None:
    """Kafka topics: create the missing ones, list all with key, shape and purpose."""


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
