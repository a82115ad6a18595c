"""The network between any two parts: cut, slow, lossy, stalled, half-open."""

from __future__ import annotations

from typing import ClassVar

from vitalgate.torture.fault import Fault, Field
from vitalgate.torture.proxy import Mode, Trouble
from vitalgate.torture.rig import OURS

_WAYS = ("devices", "mqtt", "kafka", "postgres")
#: Who speaks to whom.
_SPEAK = {
    "mqtt": ("gateway", "notifier", "registrar"),
    "kafka": OURS,
    "postgres": ("recorder", "archiver", "registrar", "analysis"),
}


class _Network(Fault):
    row: ClassVar[str] = "network"
    mode: ClassVar[Mode]
    longest_s: ClassVar[float] = 8.0
    seconds: ClassVar[float] = 10.0

    def trouble(self, field: Field, pid: int | None) -> Trouble:
        """What the proxy is to do."""
        return Trouble(self.mode, pid=pid)

    async def strike(self, field: Field) -> None:
        """Between the server and all of its clients, or one of them."""
        way = field.chance.choice([name for name in _WAYS if name in field.rig.proxies])
        one = field.chance.choice(_SPEAK[way]) if way in _SPEAK and field.chance.random() < 0.5 else None
        pid = await field.do(field.rig.pid, one) if one else None
        trouble = self.trouble(field, pid)
        field.say(f"{trouble} between {one or 'everybody'} and {'mqtt' if way == 'devices' else way} ({way})")
        await field.do(field.rig.trouble, way, trouble)
        try:
            await field.pause(3, self.longest_s)
        finally:
            await field.do(field.rig.proxies[way].calm)
            field.say("calm")


class NetworkCut(_Network):
    """All connections to one server, or of one process to it, reset and refused for three to eight seconds."""

    name: ClassVar[str] = "network-cut"
    mode: ClassVar[Mode] = "cut"


class NetworkDelay(_Network):
    """Every chunk of bytes to and from one server 50 to 400 ms late."""

    name: ClassVar[str] = "network-delay"
    mode: ClassVar[Mode] = "delay"

    def trouble(self, field: Field, pid: int | None) -> Trouble:
        """With a random delay."""
        return Trouble("delay", delay_s=round(field.chance.uniform(0.05, 0.4), 2), pid=pid)


class NetworkLoss(_Network):
    """Connections reset again and again: what a user of TCP sees of a bad network."""

    name: ClassVar[str] = "network-loss"
    mode: ClassVar[Mode] = "loss"

    def trouble(self, field: Field, pid: int | None) -> Trouble:
        """One or two resets a second."""
        return Trouble("loss", resets_per_s=round(field.chance.uniform(0.3, 2), 1), pid=pid)


class NetworkStall(_Network):
    """Nothing comes through for three to nine seconds, then everything does: no connection is told."""

    name: ClassVar[str] = "network-stall"
    mode: ClassVar[Mode] = "stall"
    longest_s: ClassVar[float] = 9.0
    seconds: ClassVar[float] = 11.0


class NetworkHalfOpen(_Network):
    """Requests vanish while answers still come, and in the end the connection is reset: a peer that lost its power."""

    name: ClassVar[str] = "network-half-open"
    mode: ClassVar[Mode] = "half-open"
