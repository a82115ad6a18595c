"""docker-compose.yml: valid by the compose specification, and the same files and names as everything else."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from vitalgate.config.loading import env_name, names
from vitalgate.local.processes import ALL as PROCESSES

ROOT = Path(__file__).parents[2]
OTHERS = {
    "mosquitto", "broker-users", "rabbitmq", "rabbitmq-users", "kafka", "timescaledb", "prepare", "prometheus",
    "grafana",
}  # fmt: skip


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def test_valid_by_the_compose_specification() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_process_of_the_local_stack_runs_with_the_same_command(compose: dict[str, Any]) -> None:
    ours = {name: service["command"] for name, service in compose["services"].items() if name not in OTHERS}
    assert ours == {process.name: list(process.arguments) for process in PROCESSES}


def test_every_mounted_file_exists(compose: dict[str, Any]) -> None:
    mounts = [volume for service in compose["services"].values() for volume in service.get("volumes", [])]
    files = [volume.split(":")[0] for volume in mounts if volume.startswith("./")]
    assert files
    for file in files:
        assert (ROOT / file).exists(), file
    named = {volume.split(":")[0] for volume in mounts if not volume.startswith("./")}
    assert named == set(compose["volumes"])


def test_only_settings_that_exist_are_set(compose: dict[str, Any]) -> None:
    known = {env_name(name) for name in names()}
    for service in compose["services"].values():
        asked = {name for name in service.get("environment", {}) if name.startswith("VITALGATE_")}
        assert asked <= known


@pytest.mark.parametrize("broker", ["mosquitto", "rabbitmq"])
def test_one_broker_is_chosen(compose: dict[str, Any], broker: str) -> None:
    """`.env` chooses Mosquitto, deploy/compose/rabbitmq.env RabbitMQ; either has its profile, users and port."""
    file = ROOT / (".env" if broker == "mosquitto" else "deploy/compose/rabbitmq.env")
    chosen = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line and line[0] != "#")
    assert (chosen["COMPOSE_PROFILES"], chosen["BROKER"]) == (broker, broker)
    services = compose["services"]
    profiled = {name for name, service in services.items() if service.get("profiles") == [broker]}
    assert profiled == {broker, "broker-users" if broker == "mosquitto" else "rabbitmq-users"}
    assert services[broker]["ports"] == ["1883:1883"]
    assert services["gateway"]["depends_on"][broker]["required"] is False
    assert bool(chosen["BROKER_API"]) == (broker == "rabbitmq")


def test_no_secret_is_written_down(compose: dict[str, Any]) -> None:
    for name, secret in compose["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "secrets/" in ignored


def test_prometheus_scrapes_every_process() -> None:
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = {target.split(":")[0] for target in scrape["scrape_configs"][0]["static_configs"][0]["targets"]}
    assert targets == {process.name for process in PROCESSES}


def test_the_image_does_not_run_as_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert any(line.startswith("USER vitalgate") for line in lines)
    assert any(line.startswith("HEALTHCHECK") for line in lines)


def test_the_brokers_own_configuration_is_accepted(tmp_path: Path) -> None:
    """Mosquitto itself reads the files that compose mounts, with the paths put where they are here."""
    from vitalgate.local.mosquitto import executable, plugin

    text = (ROOT / "deploy/compose/mosquitto.conf").read_text()
    text = text.replace("/etc/vitalgate/mosquitto", str(ROOT / "deploy/mosquitto"))
    text = text.replace("/var/lib/mosquitto/", f"{tmp_path}/").replace("/var/log/vitalgate/", f"{tmp_path}/")
    text = text.replace("/usr/lib/mosquitto_dynamic_security.so", str(plugin()))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        text = text.replace("listener 1883", f"listener {free.getsockname()[1]} 127.0.0.1\nuser root")
    (tmp_path / "dynamic-security.json").write_text('{"defaultACLAccess":{},"clients":[],"groups":[],"roles":[]}')
    (tmp_path / "mosquitto.conf").write_text(text)
    tmp_path.chmod(0o777)
    with subprocess.Popen(
        [executable(), "-c", tmp_path / "mosquitto.conf"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as broker:
        try:
            output, _ = broker.communicate(timeout=1.5)
        except subprocess.TimeoutExpired:
            broker.terminate()
            output, _ = broker.communicate()
    log = tmp_path / "mosquitto.log"
    assert "Error" not in output + (log.read_text() if log.exists() else "")
    assert "running" in output + (log.read_text() if log.exists() else "")
