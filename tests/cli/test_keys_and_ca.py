"""`vitalgate keys` and `vitalgate ca` as they are typed."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from vitalgate.cli import cli
from vitalgate.config.loading import load
from vitalgate.local.errors import StackError
from vitalgate.local.layout import Layout, State
from vitalgate.local.plan import choose
from vitalgate.local.ports import Ports
from vitalgate.pki import keyring, sealing


def run(folder: Path, *arguments: str, status: int = 0) -> Any:
    with CliRunner().isolated_filesystem(folder):
        result = CliRunner().invoke(cli, [*arguments, "--data", str(folder / "data")])
    assert result.exit_code == status, result.output
    try:
        return json.loads(result.stdout)
    except ValueError:
        return result.output


def test_a_key_ring_is_made_once_rotated_and_cleared_of_old_keys(tmp_path: Path) -> None:
    ring = tmp_path / "keys.ring"
    made = run(tmp_path, "keys", "new", str(ring), "--json")
    assert "would be lost" in run(tmp_path, "keys", "new", str(ring), status=1)
    sealed = sealing.seal(keyring.read(str(ring)), "Ada", "person/1/name")
    rotated = run(tmp_path, "keys", "rotate", str(ring), "--index", "--json")
    assert rotated["seal"][1:] == made["seal"]
    assert rotated["index"][1:] == made["index"]
    now = keyring.read(str(ring))
    assert sealing.unseal_text(now, sealed, "person/1/name") == "Ada"
    again = sealing.rewrap(now, sealed)
    run(tmp_path, "keys", "rotate", str(ring), "--drop", made["seal"][0])
    left = keyring.read(str(ring))
    assert sealing.unseal_text(left, again, "person/1/name") == "Ada"
    with pytest.raises(sealing.UnknownKey):
        sealing.unseal(left, sealed, "person/1/name")
    assert "is in use" in run(tmp_path, "keys", "rotate", str(ring), "--drop", rotated["seal"][0], status=1)
    shown = run(tmp_path, "keys", "show", str(ring))
    assert rotated["seal"][0] in shown
    assert not any(line.split()[2] in shown for line in ring.read_text().splitlines() if not line.startswith("#"))


def test_without_a_file_the_setting_is_named(tmp_path: Path) -> None:
    assert "security.keys_file is not set" in run(tmp_path, "keys", "show", status=2)


def test_a_certificate_from_first_to_last(tmp_path: Path) -> None:
    assert "vitalgate ca init" in run(tmp_path, "ca", "issue", "device", "bp-1", status=1)
    assert len(run(tmp_path, "ca", "init", "--json")["made"]) == 2
    assert run(tmp_path, "ca", "init", "--json")["made"] == []
    first = run(tmp_path, "ca", "issue", "device", "bp-1", "--days", "20", "--out", str(tmp_path / "given"), "--json")
    assert stat.S_IMODE((tmp_path / first["key"]).stat().st_mode) == 0o600
    run(tmp_path, "ca", "issue", "server", "broker", "--host", "broker.example", "--out", str(tmp_path / "given"))
    assert "--host" in run(tmp_path, "ca", "issue", "server", "broker", status=1)
    assert "own users" in run(tmp_path, "ca", "issue", "device", "vg-admin", status=1)
    assert [entry["name"] for entry in run(tmp_path, "ca", "list", "--ending", "30", "--json")] == ["bp-1"]
    second = run(tmp_path, "ca", "renew", "bp-1", "--out", str(tmp_path / "given"), "--json")
    assert second["replaced"] == [first["serial"]]
    assert run(tmp_path, "ca", "show", first["serial"], "--json")["state"] == "revoked"
    assert run(tmp_path, "ca", "show", "bp-1", "--json")["serial"] == second["serial"]
    kept = run(tmp_path, "ca", "renew", "broker", "--keep-old", "--out", str(tmp_path / "given"), "--json")
    assert (kept["replaced"], kept["hosts"]) == ([], ["broker.example"])
    told = run(tmp_path, "ca", "revoke", "bp-1", "--json")
    assert [entry["serial"] for entry in told["revoked"]] == [second["serial"]]
    assert not told["broker_told"]
    assert "no valid certificate" in run(tmp_path, "ca", "revoke", "bp-1", status=1)
    states = {entry["serial"]: entry["state"] for entry in run(tmp_path, "ca", "list", "--json")}
    assert sorted(states.values()) == ["revoked", "revoked", "valid", "valid"]


def test_tls_and_rabbitmq_are_refused_together(tmp_path: Path) -> None:
    flags = {"local.tls": "true", "mqtt.broker": "rabbitmq"}
    layout = Layout.at(tmp_path)
    state = State(layout)
    with pytest.raises(StackError, match="leave one of them out"):
        choose(load(env={}, flags=flags, data=str(tmp_path)), None, layout, state, Ports(state))
