"""Settings: sources in rising order, each remembered; unknown names and bad values are errors that say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitalgate.config.loading import SettingsError, env_name, load, names, read_secret


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_sources_in_rising_order(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "stack.toml").write_text("[mqtt]\nport = 1001\nhost = '10.0.0.1'\nusername = 'stack'\nshare_group = 's'\n")
    file = tmp_path / "own.toml"
    file.write_text("[mqtt]\nport = 1002\nhost = '10.0.0.2'\nusername = 'file'\n")
    env = {"VITALGATE_MQTT_PORT": "1003", "VITALGATE_MQTT_HOST": "10.0.0.3", "VITALGATE_STACK_DATA": str(data)}
    loaded = load(config=file, env=env, flags={"mqtt.port": "1004"})
    mqtt = loaded.settings.mqtt
    assert (mqtt.port, mqtt.host, mqtt.username, mqtt.share_group) == (1004, "10.0.0.3", "file", "s")
    assert loaded.sources["mqtt.port"] == "flag"
    assert loaded.sources["mqtt.host"] == "environment VITALGATE_MQTT_HOST"
    assert loaded.sources["mqtt.username"] == f"file {file}"
    assert loaded.sources["mqtt.share_group"] == "stack"
    assert "mqtt.max_payload_bytes" not in loaded.sources


def test_every_setting_is_described_and_reachable_by_environment() -> None:
    described = {item.name: item for item in load(env={}).describe()}
    assert list(described) == names()
    for name, item in described.items():
        assert item.meaning.endswith("."), f"{name} has no sentence that says what it means"
        assert item.source == "default"
        assert item.env == env_name(name)


@pytest.mark.parametrize(
    ("env", "flags", "says"),
    [
        ({"VITALGATE_MQTT_PROT": "1"}, {}, "VITALGATE_MQTT_PROT"),
        ({}, {"mqtt.prot": "1"}, "mqtt.prot"),
        ({"VITALGATE_MQTT_PORT": "70000"}, {}, "mqtt.port = '70000' from environment VITALGATE_MQTT_PORT"),
        ({"VITALGATE_DATABASE_TIMESCALE": "maybe"}, {}, "database.timescale"),
    ],
)
def test_wrong_settings_are_named(env: dict[str, str], flags: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says.replace(".", r"\.")):
        load(env=env, flags=flags)


def test_unknown_name_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "vitalgate.toml").write_text("[mqtt]\nprot = 1\n")
    with pytest.raises(SettingsError, match=r"mqtt\.prot"):
        load(env={})
    (tmp_path / "vitalgate.toml").write_text("mqtt = 1\n")
    with pytest.raises(SettingsError, match="must be a table"):
        load(env={})
    (tmp_path / "vitalgate.toml").write_text("[mqtt\n")
    with pytest.raises(SettingsError, match="not TOML"):
        load(env={})


def test_a_secret_is_read_without_its_line_end_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    assert read_secret(str(tmp_path / "secret"), "gateway password") == "s3cret"
    with pytest.raises(SettingsError, match="gateway password"):
        read_secret(str(tmp_path / "none"), "gateway password")
    with pytest.raises(SettingsError, match="no file is set"):
        read_secret("", "gateway password")
