"""PostgreSQL killed, restarted, refused, locked, slow, out of connections."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import ClassVar

import psycopg

from vitalgate.torture.fault import Fault, Field
from vitalgate.torture.proxy import Trouble
from vitalgate.torture.rig import Rig

#: Rules that tell at the first value, and who has to live for it.
_AT_ONCE = frozenset({"spo2-critical", "glucose-very-low", "glucose-low", "temperature-high"})
_ALERT_MAKERS = frozenset({"gateway", "intake", "alerting"})
#: How long a process that was killed before may be away, seconds.
_BACK_WITHIN_S = 15.0
#: Generous: a test machine may have more to do.
_ALERT_WITHIN_S = 4.0


class KillDatabase(Fault):
    """`kill -9` of PostgreSQL's first process: crash recovery at the next start."""

    name: ClassVar[str] = "kill-database"
    row: ClassVar[str] = "database"

    async def strike(self, field: Field) -> None:
        """Kill it."""
        field.say("kill -9 postgres")
        await field.do(field.rig.kill, "postgres")


class RestartDatabase(Fault):
    """PostgreSQL restarted in order (fast shutdown): connections end with an error, then it is back."""

    name: ClassVar[str] = "restart-database"
    row: ClassVar[str] = "database"

    async def strike(self, field: Field) -> None:
        """SIGINT; the supervisor starts it again."""
        field.say("fast shutdown of postgres")
        await field.do(field.rig.kill, "postgres", signal.SIGINT)


class DatabaseAway(Fault):
    """PostgreSQL away for eight to twelve seconds, and workers killed meanwhile: alerts must go out all the same."""

    name: ClassVar[str] = "database-away"
    row: ClassVar[str] = "database"
    seconds: ClassVar[float] = 15.0
    weight: ClassVar[float] = 2.0

    def __init__(self) -> None:
        self.away = (0.0, 0.0)

    async def strike(self, field: Field) -> None:
        """Stop it, kill workers, start it."""
        field.say("stop postgres")
        began = time.time()
        await field.do(field.rig.stop_one, "postgres")
        await field.pause(2, 4)
        for name in field.chance.sample(("intake", "alerting", "analysis", "recorder", "gateway"), 2):
            field.say(f"kill -9 {name} without the database")
            await field.do(field.rig.kill, name)
        await field.pause(5, 8)
        self.away = (began, time.time())
        field.say("start postgres")
        await field.do(field.rig.start_one, "postgres")

    async def after(self, field: Field) -> None:
        """Alerts that were due while it was away, with all who make them alive, were told before it was back."""
        told = await field.do(_told, field.rig, list(field.traffic.patients()))
        began, ended = self.away
        field.notes["alerts told while the database was away"] = sum(began < at < ended for *_, at in told)
        killed = {name for at, name in field.rig.kills if began - _BACK_WITHIN_S < at < ended}
        if killed & _ALERT_MAKERS:
            return
        for rule, onset, at in told:
            due = field.traffic.clock.wall(onset)
            if rule in _AT_ONCE and began < due < ended - _ALERT_WITHIN_S and at > ended:
                field.faults.append(
                    f"the alert {rule} was due {ended - due:.1f} s before the database was back, told after"
                )


class DatabaseRefused(Fault):
    """Every connection to PostgreSQL refused for five to ten seconds, those that were open reset."""

    name: ClassVar[str] = "database-refused"
    row: ClassVar[str] = "database"

    async def strike(self, field: Field) -> None:
        """At the proxy."""
        field.say("postgres refuses")
        await field.do(field.rig.trouble, "postgres", Trouble("cut"))
        try:
            await field.pause(5, 10)
        finally:
            await field.do(field.rig.proxies["postgres"].calm)
            field.say("postgres answers")


class DatabaseSlow(Fault):
    """PostgreSQL slow: 100 to 500 ms more for every message to and from it, for six to ten seconds."""

    name: ClassVar[str] = "database-slow"
    row: ClassVar[str] = "database"

    async def strike(self, field: Field) -> None:
        """At the proxy."""
        trouble = Trouble("delay", delay_s=round(field.chance.uniform(0.1, 0.5), 2))
        field.say(f"postgres: {trouble}")
        await field.do(field.rig.trouble, "postgres", trouble)
        try:
            await field.pause(6, 10)
        finally:
            await field.do(field.rig.proxies["postgres"].calm)
            field.say("postgres quick again")


class DatabaseLocked(Fault):
    """The tables that are written to locked by somebody for five to ten seconds."""

    name: ClassVar[str] = "database-locked"
    row: ClassVar[str] = "database"

    async def strike(self, field: Field) -> None:
        """LOCK TABLE in a transaction of another session."""
        held = threading.Event()
        field.say("readings, ledger and features locked")
        holding = field.do(_lock, field.rig, held, field.chance.uniform(5, 10))
        await holding
        field.say("unlocked")


class NoConnections(Fault):
    """All connections of PostgreSQL taken by somebody else for five to nine seconds, after ours were cut."""

    name: ClassVar[str] = "no-connections"
    row: ClassVar[str] = "database"

    async def strike(self, field: Field) -> None:
        """Cut ours, take all there are, give them back."""
        field.say("all connections taken")
        taken: list[psycopg.Connection[tuple[object, ...]]] = []
        await field.do(field.rig.trouble, "postgres", Trouble("cut"))
        try:
            await field.do(_take_all, field.rig, taken)
            await field.do(field.rig.proxies["postgres"].calm)
            field.notes["connections taken"] = len(taken)
            await field.pause(5, 9)
        finally:
            await field.do(field.rig.proxies["postgres"].calm)
            for connection in taken:
                await field.do(connection.close)
            field.say("connections given back")


def _told(rig: Rig, patients: list[str]) -> list[tuple[str, float, float]]:
    """(rule, onset, when it was told first) of every alert."""
    database = rig.settings.database
    with psycopg.connect(database.dsn, options=f"-c search_path={database.db_schema}_data") as connection:
        return connection.execute(
            "SELECT rule, extract(epoch FROM min(onset))::float8, extract(epoch FROM min(detected_at))::float8"
            " FROM alert_events WHERE patient_id = ANY(%s) GROUP BY alert_id, rule", (patients,),
        ).fetchall()  # fmt: skip


def _lock(rig: Rig, held: threading.Event, seconds: float) -> None:
    database = rig.settings.database
    with psycopg.connect(database.dsn, options=f"-c search_path={database.db_schema}_data") as connection:
        connection.execute("LOCK TABLE readings, ledger, features, alert_events IN ACCESS EXCLUSIVE MODE")
        held.wait(seconds)
        connection.rollback()


def _take_all(rig: Rig, taken: list[psycopg.Connection[tuple[object, ...]]]) -> None:
    with contextlib.suppress(psycopg.OperationalError):
        while len(taken) < 200:
            taken.append(psycopg.connect(rig.settings.database.dsn, connect_timeout=3))
