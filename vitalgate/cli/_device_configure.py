"""Settings of one device, from the command line to its `down` topic."""

from __future__ import annotations

import json

import click

from vitalgate.cli._context import Misuse, json_option, print_json, settings


@click.command()
@click.argument("device_id", metavar="ID")
@click.argument("pairs", metavar="KEY=VALUE...", nargs=-1)
@click.option("--unset", metavar="KEY", multiple=True, help="Take a setting away; may be given several times.")
@click.option("--undeclared", is_flag=True, help="Also names and values that the device's kind does not declare.")
@json_option
def configure(device_id: str, pairs: tuple[str, ...], unset: tuple[str, ...], undeclared: bool, as_json: bool) -> None:
    """Set what a device is to do; it finds its settings, retained, on v1/devices/ID/down.

    A VALUE that reads as a number, true or false is one; everything else is a text, and so is what stands in double
    quotes: interval_s=30 quiet=true remind_at=08:00,20:00 code='"007"'. Each kind declares its keys and what they take
    (`vitalgate device kinds --json`, docs/kinds.md); a maker's own need --undeclared. A device passes over what it does
    not know.
    """
    from vitalgate.cli.device import LATER, failing, person
    from vitalgate.storage.registry import Registry
    from vitalgate.stream.enrolment import APPLY_S

    wanted = dict(_pair(pair) for pair in pairs)
    if len(wanted) < len(pairs):
        raise Misuse("a key stands twice")
    if not wanted and not unset:
        raise Misuse("name what to set, KEY=VALUE, or --unset KEY; `vitalgate device show ID` prints what is set")
    with failing(), Registry(settings().settings.database, who=person()) as registry:
        change = registry.configure(device_id, wanted, unset, undeclared=undeclared)
        applied = registry.wait_applied(change.outbox, APPLY_S)
        found = registry.settings(device_id)
    now = dict(found[0].settings) if found else {}
    revision = found[0].revision if found else 0
    changed = change.outbox is not None
    if as_json:
        print_json(
            {"device_id": device_id, "revision": revision, "settings": now, "changed": changed, "applied": applied}
        )
    else:
        click.echo(f"{device_id}  revision {revision}" + ("" if changed else "  nothing changes"))
        for key, value in sorted(now.items()):
            click.echo(f"  {key} = {json.dumps(value, ensure_ascii=False)}")
    if not applied:
        click.echo(LATER, err=True)


def _pair(text: str) -> tuple[str, str | int | float | bool]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise Misuse(f"{text!r} is not KEY=VALUE")
    try:
        read = json.loads(value)
    except ValueError:
        return key, value
    if isinstance(read, (str, int, float, bool)):
        return key, read
    if read is None:
        raise Misuse(f"{key}: null is no value; --unset {key} takes it away")
    raise Misuse(f"{key}: a list or an object is no value of a setting; give each part a key of its own")
