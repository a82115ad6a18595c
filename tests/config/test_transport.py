"""Nothing goes in the clear to another machine unless the settings say so in words."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from vitalgate.config import kafka_rights, topics
from vitalgate.config.loading import SettingsError, load
from vitalgate.config.settings import CLEARTEXT, DatabaseSettings, KafkaSettings, MqttSettings, is_loopback
from vitalgate.config.transport import conninfo, context, kafka_options, kafka_protocol, kafka_python_options
from vitalgate.pki.authority import Authority, write_pair

HERE = ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "", "/run/postgresql")
FAR = ("192.0.2.1", "broker.example", "10.0.0.1", "0.0.0.0", "fe80::1", "localhost.example", "127.0.0.1.example")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    authority = Authority(tmp_path)
    authority.init(datetime.now(UTC))
    certificate, key = write_pair(tmp_path, "gateway", authority.issue("service", "gateway", datetime.now(UTC))[1])
    return {"ca_file": str(authority.ca_file("services")), "cert_file": str(certificate), "key_file": str(key)}


@pytest.mark.parametrize("host", HERE)
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", FAR)
def test_other_machines(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", FAR)
def test_tls_is_on_by_default_elsewhere_and_off_only_in_words(host: str) -> None:
    assert MqttSettings.model_validate({"host": host}).secure
    assert not MqttSettings.model_validate({"host": host, "tls": CLEARTEXT}).secure
    with pytest.raises(ValueError, match=CLEARTEXT):
        MqttSettings.model_validate({"host": host, "tls": "off"})


def test_on_loopback_it_is_off_unless_asked_for() -> None:
    assert not MqttSettings().secure  # type: ignore[call-arg]
    assert MqttSettings.model_validate({"tls": "on"}).secure


def test_one_far_server_among_near_ones_is_far() -> None:
    assert KafkaSettings.model_validate({"bootstrap": "127.0.0.1:9092, kafka:9092"}).secure
    with pytest.raises(ValueError, match="kafka is not this machine"):
        KafkaSettings.model_validate({"bootstrap": "127.0.0.1:9092,kafka:9092", "tls": "off"})
    assert not KafkaSettings.model_validate({"bootstrap": "127.0.0.1:9092,[::1]:9093"}).secure


@given(st.sampled_from(["host=db", "host=10.0.0.1 dbname=x", "postgresql://u@db.example/x", "host=127.0.0.1,db"]))
def test_the_database_elsewhere_is_asked_for_its_certificate(dsn: str) -> None:
    found = conninfo_to_dict(conninfo(DatabaseSettings.model_validate({"dsn": dsn})))
    assert (found["sslmode"], found["sslrootcert"]) == ("verify-full", "system")
    assert conninfo(DatabaseSettings.model_validate({"dsn": dsn, "tls": CLEARTEXT})) == dsn
    with pytest.raises(SettingsError, match=CLEARTEXT):
        conninfo(DatabaseSettings.model_validate({"dsn": dsn, "tls": "off"}))


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_a_connection_string_that_may_go_in_the_clear_is_refused(mode: str) -> None:
    with pytest.raises(SettingsError, match=f"sslmode={mode}"):
        conninfo(DatabaseSettings.model_validate({"dsn": f"host=db sslmode={mode}"}))
    near = f"host=127.0.0.1 sslmode={mode}"
    assert conninfo(DatabaseSettings.model_validate({"dsn": near})) == near


def test_user_and_password_take_the_place_of_the_strings(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("it's \\ a secret\n")
    settings = DatabaseSettings.model_validate(
        {"dsn": "host=127.0.0.1 user=a password=b", "user": "c", "password_file": str(tmp_path / "password")}
    )
    found = conninfo_to_dict(conninfo(settings))
    assert (found["user"], found["password"]) == ("c", "it's \\ a secret")


def test_a_bad_connection_string_is_not_repeated() -> None:
    with pytest.raises(SettingsError, match="no connection string") as caught:
        conninfo(DatabaseSettings.model_validate({"dsn": "host=db password"}))
    assert "hunter2" not in str(caught.value)


def test_every_client_library_gets_the_same(files: dict[str, str]) -> None:
    kafka = KafkaSettings.model_validate({"bootstrap": "kafka:9093", **files})
    options = kafka_options(kafka)
    assert options["security.protocol"] == kafka_protocol(kafka) == kafka_python_options(kafka)["security_protocol"]
    assert options["ssl.ca.location"] == files["ca_file"]
    assert options["ssl.endpoint.identification.algorithm"] == "https"
    assert kafka_python_options(kafka)["ssl_context"].check_hostname
    chain = KafkaSettings.model_validate({"bootstrap": "kafka:9093", "verify": "ca", **files})
    assert kafka_options(chain)["ssl.endpoint.identification.algorithm"] == "none"
    assert not kafka_python_options(chain)["ssl_context"].check_hostname


def test_passwords_go_over_sasl(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    kafka = KafkaSettings.model_validate(
        {"bootstrap": "kafka:9093", "username": "intake", "password_file": str(tmp_path / "password")}
    )
    assert kafka_options(kafka)["security.protocol"] == "SASL_SSL"
    assert kafka_options(kafka)["sasl.mechanism"] == "SCRAM-SHA-512"
    assert kafka_python_options(kafka)["sasl_plain_password"] == "secret"


def test_an_unreadable_file_is_named(tmp_path: Path, files: dict[str, str]) -> None:
    missing = str(tmp_path / "no.pem")
    with pytest.raises(SettingsError, match=r"mqtt\.ca_file.*no\.pem"):
        context(MqttSettings.model_validate({"tls": "on", "ca_file": missing}), "mqtt")
    with pytest.raises(SettingsError, match=r"mqtt\.cert_file"):
        context(MqttSettings.model_validate({"tls": "on", **files, "key_file": files["ca_file"]}), "mqtt")


def test_a_renewed_certificate_is_read_again(files: dict[str, str]) -> None:
    settings = MqttSettings.model_validate({"tls": "on", **files})
    first = context(settings, "mqtt")
    assert context(settings, "mqtt") is first
    path = Path(files["cert_file"])
    path.touch()
    import os

    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**9))
    assert context(settings, "mqtt") is not first


@pytest.mark.parametrize("command", [["gateway"], ["notifier"], ["registrar"], ["worker", "intake"], ["migrate"]])
def test_every_process_refuses_to_start_in_the_clear(command: list[str]) -> None:
    flags = ["--set", "mqtt.host=broker.example", "--set", "mqtt.tls=off"]
    done = subprocess.run(
        [sys.executable, "-m", "vitalgate.cli", *command, *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "broker.example is not this machine and tls is off" in done.stderr
    assert CLEARTEXT in done.stderr


def test_the_clear_is_refused_from_every_source(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"flags": {"kafka.bootstrap": "kafka:9092", "kafka.tls": "off"}},
        {"env": {"VITALGATE_KAFKA_BOOTSTRAP": "kafka:9092", "VITALGATE_KAFKA_TLS": "off"}},
    ]
    for source in wrong:
        with pytest.raises(SettingsError, match="in the clear"):
            load(**{"env": {}, **source})


def test_the_table_of_rights_names_topics_that_there_are() -> None:
    known = {topic.name for topic in topics.ALL}
    for who, entry in kafka_rights.table().items():
        named = {name for verb in ("read", "write") for name in entry.get(verb, ()) if name != "*"}
        assert named <= known, (who, named - known)


def test_every_topic_has_a_writer_and_only_people_may_read_all() -> None:
    table = kafka_rights.table()
    written = {name for entry in table.values() for name in entry.get("write", ())}
    # What a restored Kafka needs to know is written by `vitalgate restore`, as the administrator.
    assert {topic.name for topic in topics.ALL} - {"log.bases"} <= written
    assert [who for who, entry in table.items() if "*" in entry.get("read", ())] == ["operator"]
    assert not [who for who, entry in table.items() if "*" in entry.get("write", ())]
    # The trail and the stored facts have one writer each.
    for topic, writer in (("audit.events", "auditor"), ("device.readings", "recorder"), ("patient.alerts", "alerting")):
        assert [who for who, entry in table.items() if topic in entry.get("write", ())] == [writer]


def test_rights_carry_the_deployments_prefix() -> None:
    plain = kafka_rights.rights(KafkaSettings.model_validate({}))
    other = kafka_rights.rights(KafkaSettings.model_validate({"prefix": "ward."}))
    assert {right.name for right in other if not right.name.startswith("ward.")} == {"vg-none"}
    assert len(plain) >= 60
