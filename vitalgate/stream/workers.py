"""The workers by name; each is imported only where it runs."""

from __future__ import annotations

import importlib

from vitalgate.stream.worker import Worker

#: Class of each worker, made without arguments.
WORKERS = {
    "intake": "vitalgate.stream.intake:Intake",
    "recorder": "vitalgate.stream.recorder:Recorder",
    "analysis": "vitalgate.stream.analysis:Analysis",
    "alerting": "vitalgate.stream.alerting:Alerting",
    "handover": "vitalgate.stream.handover:Handover",
    "auditor": "vitalgate.stream.auditor:Auditor",
    "archiver": "vitalgate.stream.archiver:Archiver",
}


def make_worker(name: str) -> Worker:
    """A new worker.

    Raises
    ------
    KeyError
        When there is none of this name.
    """
    module, _, attribute = WORKERS[name].partition(":")
    worker = getattr(importlib.import_module(module), attribute)()
    assert isinstance(worker, Worker)
    return worker
