"""Run one stream worker (one process): intake, recorder, analysis, alerting, handover, auditor or archiver."""

from __future__ import annotations

import os
import signal

import click

from vitalgate.cli._context import settings
from vitalgate.stream.workers import WORKERS


@click.command()
@click.argument("name", type=click.Choice(list(WORKERS)))
@click.option("--slot", help="Slot among the workers of this name; each needs its own (default: worker.slot).")
def command(name: str, slot: str | None) -> None:
    """Run one stream worker until SIGTERM.

    \b
    intake    device.raw -> validated batches, patient inputs, dead letters, receipts
    recorder  validated batches -> database, public readings and waveforms
    analysis  patient inputs -> beats and features
    alerting  inputs, features and ticks -> alerts
    handover  alerts -> webhooks, mails, phones (docs/handover.md)
    auditor   audit inbox -> the hash-chained trail
    archiver  beats, features, alerts, deliveries, audit events -> database

    Several processes of one name share the partitions: give each a slot of its own (--slot 1). SIGTERM finishes the
    batch in hand and ends with status 0 within two seconds. Status 3 means that something unexpected happened and the
    process wants to be started again; nothing is lost, Kafka hands over again what was not acknowledged.
    """
    # The imports take a second; asked to stop meanwhile, there is nothing in hand to finish.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    # A worker is one process on one core: threads of its linear algebra would only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from vitalgate.stream.harness import run
    from vitalgate.stream.workers import make_worker

    run(make_worker(name), settings().settings, slot)
