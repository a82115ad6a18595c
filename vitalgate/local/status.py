"""The document of `vitalgate status --json`: addresses, processes, and whether each part answers now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Any

from vitalgate.config.settings import Settings
from vitalgate.local.child import Child
from vitalgate.local.figures import figures
from vitalgate.local.plan import part_probes
from vitalgate.local.probes import Probe

_PATIENCE_S = 2.0
_HEALTH_PORT = "VITALGATE_HEALTH_PORT"


async def document(
    settings: Settings | None, only: Collection[str] | None, children: Mapping[str, Child], own: Collection[str],
    *, with_figures: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Addresses once they are known, every process, the health of every part and of our processes in ``own``.

    ``with_figures`` reads the metrics of every process besides (`figures.py`).
    """
    found: dict[str, Any] = {}
    probes: dict[str, Probe] = {}
    if settings:
        found["mqtt"] = {"broker": settings.mqtt.broker, "host": settings.mqtt.host, "port": settings.mqtt.port}
        found["kafka"] = {"bootstrap": settings.kafka.bootstrap}
        found["database"] = {"dsn": settings.database.dsn}
        probes = part_probes(settings, only) | {name: children[name].spec.probe for name in own}
    found["processes"] = [
        {
            "name": child.spec.name,
            "pid": child.pid,
            "state": child.state,
            "restarts": child.restarts,
            "last_exit": child.last_exit,
            "log": str(child.log),
        }
        for child in children.values()
    ]
    answers = await asyncio.gather(*(_ask(probe) for probe in probes.values()))
    found["health"] = dict(zip(probes, answers, strict=True))
    if with_figures:
        found["figures"] = await figures({name: int(children[name].spec.env[_HEALTH_PORT]) for name in own})
    sieve = children["mosquitto"].sieve if "mosquitto" in children else None
    if sieve and "mqtt" in found["health"]:
        sieve.sift()
        found["health"]["mqtt"]["refused"] = sieve.counted
    return found


async def _ask(probe: Probe) -> dict[str, Any]:
    began = time.monotonic()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await probe()
    except Exception as error:  # any answer but yes is a no, with its reason
        return {"ok": False, "detail": str(error) or type(error).__name__}
    return {"ok": True, "ms": round((time.monotonic() - began) * 1000, 1)}
