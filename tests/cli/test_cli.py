"""The script: global options anywhere, errors in one line, exit statuses, help that imports nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def vitalgate(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "vitalgate.cli", *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, **env},
    )  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "arguments",
    [
        ("--set", "mqtt.port=1999", "settings", "mqtt.port", "--json"),
        ("settings", "--set", "mqtt.port=1999", "mqtt.port", "--json"),
        ("settings", "mqtt.port", "--json", "--set", "mqtt.port=1999"),
    ],
)
def test_global_options_stand_before_or_after_the_subcommand(arguments: tuple[str, ...]) -> None:
    done = vitalgate(*arguments)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["name"], row["value"], row["source"]) == ("mqtt.port", 1999, "flag")
    assert row["meaning"]


def test_settings_rise_from_file_over_environment_to_flag(here: Path) -> None:
    (here / "mine.toml").write_text("[mqtt]\nport = 1001\n[kafka]\npartitions = 1002\n[log]\nlevel = 'debug'\n")
    done = vitalgate(
        "settings", "--json", "--config", "mine.toml", "--set", "mqtt.port=3001",
        VITALGATE_MQTT_PORT="2001", VITALGATE_KAFKA_PARTITIONS="2002",
    )  # fmt: skip
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert (rows["mqtt.port"]["value"], rows["mqtt.port"]["source"]) == (3001, "flag")
    assert rows["kafka.partitions"]["value"] == 2002
    assert rows["kafka.partitions"]["source"] == "environment VITALGATE_KAFKA_PARTITIONS"
    assert (rows["log.level"]["value"], rows["log.level"]["source"]) == ("debug", "file mine.toml")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("settings", "--set", "mqtt.prot=1"), 2, "unknown setting 'mqtt.prot' in flag"),
        (("settings", "--set", "mqtt.port=99999"), 2, "mqtt.port = '99999' from flag"),
        (("settings", "--set", "mqtt.port"), 2, "'mqtt.port' is not of the form section.name=value"),
        (("up", "--only", "kafak"), 2, "there is no part or process 'kafak'"),
        (("status",), 1, "no stack is running in"),
        (("nonsense",), 2, "No such command 'nonsense'"),
    ],
)
def test_an_error_is_one_line_with_the_remedy_and_a_status(arguments: tuple[str, ...], status: int, words: str) -> None:
    done = vitalgate(*arguments)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.usefixtures("here")
def test_an_unknown_name_in_the_environment_is_an_error() -> None:
    done = vitalgate("settings", VITALGATE_MQTT_PROT="1")
    assert done.returncode == 2
    assert "unknown setting VITALGATE_MQTT_PROT" in done.stderr


@pytest.mark.usefixtures("here")
def test_stopping_what_does_not_run_is_no_error() -> None:
    done = vitalgate("down")
    assert done.returncode == 0
    assert "No stack is running" in done.stdout


def test_help_lists_every_subcommand_with_its_purpose_and_imports_no_library() -> None:
    code = (
        "import sys; sys.argv = ['vitalgate', '--help']\n"
        "from vitalgate.cli import cli\n"
        "try: cli.main(prog_name='vitalgate')\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'faust', 'confluent_kafka', 'psycopg', 'kafka', 'paho', 'scipy', 'jgo'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name in ("up", "down", "status", "settings"):
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert len(line.split(maxsplit=1)[1]) > 20


def test_every_subcommand_has_help_and_a_docstring() -> None:
    from vitalgate.cli import cli

    context = cli.make_context("vitalgate", ["--help"], resilient_parsing=True)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help, name
        assert (sys.modules[f"vitalgate.cli.{name.replace('-', '_')}"].__doc__ or "").strip(), name
