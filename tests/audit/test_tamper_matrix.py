"""Whatever is done to the trail, on its topic or in its table: `vitalgate audit verify` finds it and says where."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.alerts.worker_process import send
from vitalgate.audit.anchors import dump
from vitalgate.audit.chain import Tip, append, tip_of
from vitalgate.audit.checkpoints import sign
from vitalgate.cli import cli
from vitalgate.config import topics
from vitalgate.config.loading import load
from vitalgate.config.settings import Settings
from vitalgate.local.topics import create_topics
from vitalgate.storage.archive import Archive
from vitalgate.storage.migrate import migrate

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))
LINKS, EVERY = 60, 10
Trail = list[dict[str, Any]]


def made(count: int = LINKS, key: Ed25519PrivateKey = KEY, what: str = "batch.recorded") -> Trail:
    """A trail as the auditor writes it: a link a day, a checkpoint over every tenth."""
    tip, out = Tip(), []
    for n in range(count):
        day = f"2026-{1 + n // 28:02d}-{1 + n % 28:02d}T12:00:00Z"
        event = {"event_id": f"{what}-{n}", "who": "ada", "action": what, "entity_type": "batch", "entity_id": f"b{n}",
                 "when": day, "where": "ward-3", "outcome": "success", "detail": {"items": n}}  # fmt: skip
        linked = append(tip, n, json.dumps(event).encode())
        assert linked is not None
        tip, link = linked
        out.append(link)
        if tip.n % EVERY == 0:
            out.append(sign(key, tip, link["when"]))
    return out


def at(trail: Trail, n: int) -> int:
    return next(i for i, record in enumerate(trail) if record["n"] == n and not record.get("checkpoint"))


# --- what a tamperer does: to the records of the topic ---------------------------------------------------------------


def change(trail: Trail) -> Trail:
    trail[at(trail, 23)]["who"] = "somebody else"
    return trail


def delete(trail: Trail) -> Trail:
    del trail[at(trail, 23)]
    return trail


def insert(trail: Trail) -> Trail:
    forged = copy.deepcopy(trail[at(trail, 23)]) | {"event_id": "forged"}
    trail.insert(at(trail, 23), forged)
    return trail


def reorder(trail: Trail) -> Trail:
    a, b = at(trail, 23), at(trail, 24)
    trail[a], trail[b] = trail[b], trail[a]
    return trail


def truncate_end(trail: Trail) -> Trail:
    return trail[: at(trail, 47)]


def truncate_beginning(trail: Trail) -> Trail:
    return trail[at(trail, 12) :]


def truncate_all(_: Trail) -> Trail:
    return []


def replace_tail(trail: Trail) -> Trail:
    """Whoever can compute hashes makes the links from 47 on anew; the checkpoints after them they cannot sign."""
    return _made_anew(trail, 47, None)


def replace_tail_and_sign(trail: Trail) -> Trail:
    return _made_anew(trail, 47, STRANGER)


def _made_anew(trail: Trail, n: int, key: Ed25519PrivateKey | None) -> Trail:
    out = trail[: at(trail, n)]
    tip = tip_of(trail[at(trail, n - 1)])
    for offset in range(n - 1, LINKS):
        linked = append(tip, offset, b'{"event_id":"forged","action":"batch.recorded"}')
        assert linked is not None
        tip, link = linked
        out.append(link)
        if key and tip.n % EVERY == 0:
            out.append(sign(key, tip, None))
    return out


def swap_partition(_: Trail) -> Trail:
    """The partition's files exchanged for those of another deployment: a chain that holds in itself."""
    return made(key=STRANGER, what="other.deployment")


def old_backup(trail: Trail) -> Trail:
    """The topic as it was earlier, checkpoints and all."""
    return trail[: at(trail, 41)]


def garbage(trail: Trail) -> Trail:
    trail.insert(at(trail, 23), {"stranger": [1, 2, 3]})
    return trail


class Case(NamedTuple):
    tamper: Callable[[Trail], Trail]
    where: int
    says: str


ON_THE_TOPIC = [
    Case(change, 23, "content does not give its hash"),
    Case(delete, 23, "was left out"),
    Case(insert, 23, "content does not give its hash"),
    Case(reorder, 23, "was left out"),
    Case(truncate_end, 47, "cut off"),
    Case(truncate_beginning, 1, "what came before it is gone"),
    Case(truncate_all, 1, "cut off"),
    Case(replace_tail, 50, "another hash"),
    Case(replace_tail_and_sign, 50, "another hash"),
    Case(swap_partition, 10, "another hash"),
    Case(old_backup, 41, "cut off"),
    Case(garbage, 23, "no link of a chain"),
]


# --- and to the rows of the table ------------------------------------------------------------------------------------

IN_THE_TABLE = {
    "change the record": (
        "UPDATE audit_events SET record = convert_to(replace(convert_from(record, 'UTF8'), 'ada', 'bob'), 'UTF8')"
        " WHERE n = 23", 23, "content does not give its hash"),
    "change what people read": ("UPDATE audit_events SET who = 'bob' WHERE n = 23", 23, "content does not give"),
    "delete": ("DELETE FROM audit_events WHERE n = 23", 23, "was left out"),
    "insert": (
        "INSERT INTO audit_events SELECT time + interval '1 hour', n, 'forged', who, action, entity_type, entity_id,"
        " place, outcome, checkpoint, inbox_offset, previous_hash, hash, record FROM audit_events WHERE n = 23"
        " AND NOT checkpoint", 23, "again, differently"),
    "insert a checkpoint": (
        "INSERT INTO audit_events SELECT time, n, event_id, who, action, entity_type, entity_id, place, outcome, true,"
        " NULL, NULL, hash, convert_to('{\"checkpoint\":true,\"n\":23,\"hash\":\"' || hash || '\",\"signature\":\"\"}',"
        " 'UTF8') FROM audit_events WHERE n = 23", 23, "content does not give its hash|signature of its checkpoint"),
    "reorder": (
        "UPDATE audit_events a SET record = b.record FROM audit_events b"
        " WHERE (a.n, b.n) IN ((23, 24), (24, 23)) AND NOT a.checkpoint AND NOT b.checkpoint", 23,
        "was left out|content does not give"),
    "truncate the end": ("DELETE FROM audit_events WHERE n >= 47", 47, "cut off"),
    "truncate the beginning": ("DELETE FROM audit_events WHERE n < 12", 1, "what came before it is gone"),
    "truncate all": ("TRUNCATE audit_events", 1, "cut off"),
    "swap partitions": (  # what lies in one month goes under the days of another
        "CREATE TEMP TABLE swapped AS SELECT * FROM audit_events WHERE time < '2026-02-27' AND NOT checkpoint;"
        " UPDATE swapped SET time = CASE WHEN time < '2026-02-01' THEN time + interval '31 days'"
        " ELSE time - interval '31 days' END;"
        " DELETE FROM audit_events WHERE time < '2026-02-27' AND NOT checkpoint;"
        " INSERT INTO audit_events SELECT * FROM swapped", 1,
        "content does not give its hash"),
    "drop a partition": (
        "DELETE FROM audit_events WHERE time >= '2026-01-20' AND time < '2026-01-26'", 20, "was left out"),
    "restore an old backup": ("DELETE FROM audit_events WHERE n > 40; DELETE FROM audit_anchors WHERE n > 40",
                              41, "cut off"),
}  # fmt: skip


class Ground(NamedTuple):
    """Where a trail is put and verified."""

    flags: dict[str, str]
    archive: Archive

    @property
    def settings(self) -> Settings:
        return load(flags=self.flags, env={}, data=self.flags["stack.data"]).settings

    def but(self, **flags: str) -> Ground:
        """The same with other settings."""
        return self._replace(flags=self.flags | {name.replace("__", "."): value for name, value in flags.items()})

    def run(self, *arguments: str) -> Result:
        """`vitalgate audit …`."""
        words = [word for name, value in self.flags.items() for word in ("--set", f"{name}={value}")]
        return CliRunner().invoke(cli, ["audit", *arguments, *words])

    def verify(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        done = self.run("verify", *arguments, "--json")
        return done.exit_code, json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def ground(kafka_bootstrap: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("tamper")
    pem = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    # The auditor's memory outside of Kafka and the database: its newest checkpoints.
    (folder / "anchors.jsonl").write_text(dump(record for record in made() if record.get("checkpoint")))
    flags = {
        "kafka.bootstrap": kafka_bootstrap, "kafka.prefix": f"tamper{os.getpid()}.", "database.dsn": postgres_dsn,
        "database.db_schema": f"tamper{os.getpid()}", "audit.signing_key_file": str(folder / "key.pem"),
        "audit.anchor_file": str(folder / "anchors.jsonl"), "stack.data": str(folder / "data"),
    }  # fmt: skip
    settings = load(flags=flags, env={}, data=flags["stack.data"]).settings
    migrate(settings.database)
    archive = Archive(settings.database)
    archive.open()
    yield Ground(flags, archive)
    archive.close()
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = error")
        name = settings.database.db_schema
        for schema in (f"{name}_records", name, f"{name}_data"):
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


def on_topic(ground: Ground, trail: Trail, name: str) -> Ground:
    """A topic of its own that holds this trail: Kafka itself has no way to change a log but to make it anew."""
    there = ground.but(kafka__prefix=f"{ground.flags['kafka.prefix']}{name}.")
    kafka = there.settings.kafka
    create_topics(kafka, (topics.AUDIT,))
    send(kafka, [(topics.AUDIT, None, json.dumps(record).encode()) for record in trail])
    return there


def in_table(ground: Ground, statements: str = "") -> None:
    """The honest trail in the table, and what a superuser does to it."""
    database = ground.settings.database
    honest = [json.dumps(record).encode() for record in made()]
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica; SET client_min_messages = error")
        connection.execute(f"SET search_path = {database.db_schema}_data, public")
        connection.execute("DELETE FROM audit_events; DELETE FROM audit_anchors")
        assert ground.archive.audit(honest) == len(honest)
        if statements:
            connection.execute(statements.encode())


def test_an_untouched_trail_holds_on_both_sides_and_agrees_with_its_anchors(ground: Ground) -> None:
    in_table(ground)
    for where in (on_topic(ground, made(), "honest"), ground):
        code, told, complaint = where.verify(*(["--table"] if where is ground else []))
        assert (code, complaint) == (0, "")
        assert (told["ok"], told["first"], told["last"], told["signed_through"]) == (True, 1, LINKS, LINKS)
        assert told["anchors"]["agreed"] == told["anchors"]["known"] == 2 * LINKS // EVERY
        assert set(told["anchors"]["from"]) == {ground.settings.audit.anchor_file, "the database"}


@pytest.mark.parametrize("case", ON_THE_TOPIC, ids=lambda case: case.tamper.__name__)
def test_tampering_with_the_topic_is_found_at_its_place(ground: Ground, case: Case) -> None:
    in_table(ground)
    code, told, complaint = on_topic(ground, case.tamper(made()), case.tamper.__name__).verify()
    assert code == 1 and not told["ok"]
    assert (told["broken"]["n"], case.says in told["broken"]["why"]) == (case.where, True), told
    assert f"broken at link {case.where}" in complaint


@pytest.mark.parametrize("what", IN_THE_TABLE)
def test_tampering_with_the_table_is_found_at_its_place(ground: Ground, what: str) -> None:
    statements, where, says = IN_THE_TABLE[what]
    in_table(ground, statements)
    code, told, complaint = ground.verify("--table", "--wait", "0")
    assert code == 1 and not told["ok"]
    assert told["broken"]["n"] == where, told
    assert any(text in told["broken"]["why"] for text in says.split("|")), told
    assert f"broken at link {where}" in complaint


def test_a_cut_of_both_sides_shows_against_an_anchor_that_somebody_else_keeps(ground: Ground, tmp_path: Path) -> None:
    in_table(ground, "DELETE FROM audit_events; DELETE FROM audit_anchors")
    bare = ground.but(audit__anchor_file="")
    elsewhere = tmp_path / "elsewhere.jsonl"
    done = on_topic(bare, made(57), "anchored").run("anchor", str(elsewhere), "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 57
    cut = on_topic(bare, made(57)[: at(made(57), 53)], "cut")
    assert cut.verify()[0] == 0  # nothing in it is wrong: the newest checkpoint in it is over link 50
    code, told, _ = cut.verify("--anchor", str(elsewhere))
    assert (code, told["broken"]["n"]) == (1, 53)
    # A forged anchor, or a file that holds something else, proves nothing.
    forged = tmp_path / "forged.jsonl"
    forged.write_text(dump([sign(STRANGER, tip_of(made()[at(made(), 30)]), None)]))
    assert "the signature of its anchor is wrong" in cut.run("verify", "--anchor", str(forged)).stderr
    forged.write_text("{}\n")
    done = cut.run("verify", "--anchor", str(forged))
    assert done.exit_code == 1 and "line 1" in done.stderr and "is no anchor" in done.stderr


def test_a_broken_trail_is_not_anchored(ground: Ground, tmp_path: Path) -> None:
    in_table(ground)
    where = on_topic(ground, change(made()), "not-anchored")
    done = where.run("anchor", str(tmp_path / "a.jsonl"))
    assert done.exit_code == 1 and "broken at link 23" in done.stderr
    assert not (tmp_path / "a.jsonl").exists()


def test_the_table_refuses_changes_by_its_owner(ground: Ground) -> None:
    in_table(ground)
    database = ground.settings.database
    options = f"-c search_path={database.db_schema}_data,public"
    for table in ("audit_events", "audit_anchors"):
        for statement in ("UPDATE {} SET hash = ''", "DELETE FROM {}", "TRUNCATE {}"):
            with (
                psycopg.connect(database.dsn, autocommit=True, options=options) as connection,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                connection.execute(statement.format(table).encode())
