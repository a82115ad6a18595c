"""CPU time of every process of the stack, by its name in `vitalgate status`."""

from __future__ import annotations

import os
from collections.abc import Mapping

import psutil

from vitalgate.local.stack import Stack


def cpu_seconds(stack: Stack) -> dict[str, float]:
    """CPU seconds so far of each process with its children, of the supervisor, and of this one (`generator`)."""
    documents = [p for p in stack.status()["processes"] if p["pid"]]
    found = {document["name"]: _tree(document["pid"]) for document in documents}
    try:
        supervisor = psutil.Process(documents[0]["pid"]).parent() if documents else None
        if supervisor is not None:
            found["supervisor"] = _own(supervisor, reaped=False)
    except psutil.NoSuchProcess:
        pass
    found["generator"] = _own(psutil.Process(os.getpid()), reaped=False)
    return found


def per_thousand(before: Mapping[str, float], after: Mapping[str, float], messages: int) -> dict[str, float]:
    """CPU milliseconds for 1,000 messages, the largest first."""
    used = {name: (after[name] - before.get(name, 0.0)) * 1e6 / messages for name in after}
    return dict(sorted(used.items(), key=lambda item: -item[1]))


def _tree(pid: int) -> float:
    """Of a process, its living children, and those that have ended."""
    try:
        root = psutil.Process(pid)
        return sum(_own(process, reaped=True) for process in (root, *root.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0.0


def _own(process: psutil.Process, *, reaped: bool) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    own = float(times.user + times.system)
    if reaped:
        own += float(getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0))
    return own
