"""The figures of `vitalgate status`, read off the metrics of our processes: lag, gaps, dead letters, queue, audit."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from vitalgate.local.ports import HOST

_PATIENCE_S = 2.0
Samples = Mapping[str, list[tuple[dict[str, str], float]]]
"""Metric name -> its samples: labels and value."""


async def figures(ports: Mapping[str, int]) -> dict[str, Any]:
    """Ask every process at once; one that does not answer leaves its figures out.

    Parameters
    ----------
    ports
        Health port of each of our processes.
    """
    answers = await asyncio.gather(*(asyncio.to_thread(_scrape, port) for port in ports.values()))
    return summary({name: answer for name, answer in zip(ports, answers, strict=True) if answer is not None})


def _scrape(port: int) -> Samples | None:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=_PATIENCE_S) as answer:
            return parse(answer.read().decode())
    except (OSError, ValueError):
        return None


def parse(text: str) -> Samples:
    """Samples of the Prometheus text format."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append((sample.labels, sample.value))
    return found


def summary(told: Mapping[str, Samples]) -> dict[str, Any]:
    """The figures, of those processes that answered. Pure.

    Counters count since their process started; a gauge is taken from the one process whose it is.
    """
    lag: dict[str, int] = defaultdict(int)
    dead: dict[str, int] = defaultdict(int)
    gaps = 0
    for samples in told.values():
        for labels, value in samples.get("vitalgate_worker_lag", ()):
            lag[labels["worker"]] += int(value)
        for labels, value in samples.get("vitalgate_dead_lettered_total", ()):
            dead[labels["reason"]] += int(value)
        gaps += int(_one(samples, "vitalgate_sequence_gaps") or 0)
    keeper = told.get("registrar", {})
    checked = {labels["what"]: at for labels, at in keeper.get("vitalgate_checked_timestamp_seconds", ())}
    handover = told.get("handover", {})
    return {
        "lag": dict(sorted(lag.items())),
        "open_gaps": gaps,
        "dead_letters": {reason: count for reason, count in sorted(dead.items()) if count},
        "broker": {
            "queue_bytes": _whole(keeper, "vitalgate_broker_queue_bytes"),
            "queue_ratio": _one(keeper, "vitalgate_broker_queue_ratio"),
            "refused": _whole(keeper, "vitalgate_broker_denied_total"),
        },
        "audit": {
            "verified_links": _whole(keeper, "vitalgate_audit_verified_links") if "audit" in checked else None,
            "broken_at": (_whole(keeper, "vitalgate_audit_broken") or None) if "audit" in checked else None,
            "verified_at": checked.get("audit"),
        },
        "ledger": {
            "balanced": not _one(keeper, "vitalgate_ledger_unbalanced") if "ledger" in checked else None,
            "lost": _whole(keeper, "vitalgate_ledger_lost") if "ledger" in checked else None,
            "reckoned_at": checked.get("ledger"),
        },
        "undelivered_alerts": _whole(handover, "vitalgate_handover_undelivered"),
    }


def _one(samples: Samples, name: str) -> float | None:
    found = samples.get(name)
    return found[0][1] if found else None


def _whole(samples: Samples, name: str) -> int | None:
    value = _one(samples, name)
    return None if value is None else int(value)
