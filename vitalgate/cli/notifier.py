"""Tell devices what has been kept, and care teams what is alarming, over MQTT (one process)."""

from __future__ import annotations

import click

from vitalgate.cli._context import settings


@click.command()
def command() -> int:
    """Send receipts to devices and alerts to care teams over MQTT.

    Receipts go to v1/devices/DEVICE/receipts, at most one round a device within gateway.receipt_interval_ms. An open
    alert is retained at v1/alerts/TEAM/PATIENT/ALERT until it is closed; every alert event goes to
    v1/alerts/TEAM/events, and a heartbeat to v1/alerts/TEAM/heartbeat. What clinicians' screens say about an alert
    (v1/alerts/TEAM/PATIENT/ALERT/commands) is given to the alert engine, and its answer to them. Exit status 75 asks
    the supervisor to start it again.
    """
    from vitalgate.config.loading import read_secret
    from vitalgate.gateway.daemon import run_daemon
    from vitalgate.gateway.notifier import Notifier
    from vitalgate.stream.groups import group

    loaded = settings().settings
    password = read_secret(loaded.mqtt.password_file, "gateway's MQTT password (mqtt.password_file)")
    alerting = group(loaded, "alerting")
    return run_daemon("notifier", loaded, lambda health: Notifier(loaded, password, alerting, health=health))
