"""Follow a Kafka topic, readable or as JSON lines."""

from __future__ import annotations

import json
import uuid

import click

from vitalgate.cli._context import Failure, settings


@click.command()
@click.argument("topic")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for a program to read.")
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest record that is kept.")
@click.option("--count", type=click.IntRange(min=1), help="End after this many records.")
@click.option("--for", "seconds", type=click.FloatRange(min=0), help="End when nothing came for this many seconds.")
@click.option("--device", help="Only records of this device.")
@click.option("--patient", help="Only records of this patient.")
def command(
    topic: str,
    as_json: bool,
    from_beginning: bool,
    count: int | None,
    seconds: float | None,
    device: str | None,
    patient: str | None,
) -> None:
    """Follow TOPIC until Ctrl-C, such as `vitalgate tail device.readings`.

    TOPIC is the name without the deployment's prefix; `vitalgate topics list` has all of them. Internal topics are
    unpacked too. It begins with what comes next, or with --from-beginning. --json gives
    {"topic","partition","offset","timestamp","key","headers","value"}. Reading device or patient data is audited.
    """
    from vitalgate.config.topics import ALL
    from vitalgate.stream.audit_inbox import AuditEvent, tell_audit
    from vitalgate.stream.errors import NotDeliveredError
    from vitalgate.stream.follow import Follow, NoTopicError, line

    known = {one.name: one for one in ALL}
    if topic not in known:
        raise click.BadParameter(f"{topic!r} is none of {', '.join(known)}", param_hint="TOPIC")
    kafka = settings().settings.kafka
    shown = 0
    try:
        if topic.startswith(("device.", "patient.")):
            about = {name: value for name, value in (("device", device), ("patient", patient)) if value}
            event = AuditEvent("data.read", "topic", topic, uuid.uuid4().hex, about)
            tell_audit(kafka, event, "vitalgate tail")
        with Follow(kafka, known[topic], from_beginning=from_beginning, quiet_s=seconds) as records:
            for record in records:
                if (device and not record.is_device(device)) or (patient and not record.is_patient(patient)):
                    continue
                click.echo(json.dumps(record.document(), ensure_ascii=False) if as_json else line(record))
                shown += 1
                if count is not None and shown >= count:
                    return
    except (NoTopicError, NotDeliveredError) as error:
        raise Failure(str(error)) from error
