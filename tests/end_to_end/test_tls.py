"""The whole path over TLS, and who is kept out: asked with openssl, mosquitto's and Kafka's own clients."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import kafka as kafka_python
import psycopg
import pytest
import trustme
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from kafka import KafkaConsumer
from kafka.errors import TopicAuthorizationFailedError

from tests.gateway.parts import Subscriber, until
from vitalgate.client.device import Device
from vitalgate.client.tls import Tls
from vitalgate.config import kafka_rights, topics
from vitalgate.config.settings import KafkaSettings, Settings
from vitalgate.config.transport import conninfo, kafka_options, kafka_python_options
from vitalgate.local.stack import Stack
from vitalgate.pki.authority import Authority, write_pair
from vitalgate.testing.deployment import Deployment

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("tls")
    for place in (folder, *folder.parents[:2]):  # PostgreSQL may run as another user below it
        place.chmod(place.stat().st_mode | 0o011)
    stack = Stack(folder / "stack", {"local.tls": "true"})
    stack.start()
    try:
        yield Deployment.running(stack.data)
    finally:
        stack.stop(remove=True)


@pytest.fixture(scope="module")
def settings(system: Deployment) -> Settings:
    return system.settings


@pytest.fixture(scope="module")
def authority(system: Deployment) -> Authority:
    return Authority(system.data / "ca")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of an authority that nobody here knows."""
    folder = tmp_path_factory.mktemp("stranger")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    leaf = authority.issue_cert("127.0.0.1", common_name="operator", organization_unit_name="service")
    leaf.private_key_pem.write_to_path(folder / "own.key")
    leaf.cert_chain_pems[0].write_to_path(folder / "own.pem")
    return folder


def given(authority: Authority, folder: Path, name: str, *, since_days: int = 0, days: int = 30) -> tuple[Path, Path]:
    """A device's certificate and key."""
    start = datetime.now(UTC) - timedelta(days=since_days)
    return write_pair(folder, name, authority.issue("device", name, start, days=days)[1])


def publish(settings: Settings, ca: str | Path, topic: str, files: tuple[Path, Path] | None, *more: str) -> str:
    """What mosquitto_pub says to a message on the listener for certificates; empty when the broker took it."""
    shown = ("--cert", str(files[0]), "--key", str(files[1])) if files else ()
    done = subprocess.run(
        [
            "mosquitto_pub", "-h", "127.0.0.1", "-p", str(settings.mqtt.certificate_port), "--cafile", str(ca), *shown,
            "-V", "5", "-q", "1", "-t", topic, "-m", '{"state":"online"}', *more,
        ],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    return (done.stdout + done.stderr).strip() or ("" if done.returncode == 0 else f"status {done.returncode}")


def add(system: Deployment, device: str) -> str:
    """Register a device with a patient; its password."""
    added = system.command("device", "add", "bp-cuff", "--id", device, "--patient", system.add_patient(), "--json")
    return str(added["password"])


READING = {"metric": "pulse_rate", "value": 71, "unit": "/min"}


def test_a_reading_goes_the_whole_way_by_password_and_by_certificate(
    system: Deployment, authority: Authority, settings: Settings, tmp_path: Path
) -> None:
    assert (settings.mqtt.tls, settings.kafka.tls, settings.database.tls) == ("on", "on", "on")
    by_password, by_certificate = "tls-password", "tls-certificate"
    password = add(system, by_password)
    add(system, by_certificate)
    certificate, key = given(authority, tmp_path, by_certificate)
    ca = authority.ca_file("services")
    with (
        Device("127.0.0.1", settings.mqtt.port, by_password, password, tls=Tls(ca)) as one,
        Device("localhost", settings.mqtt.certificate_port, by_certificate, tls=Tls(ca, certificate, key)) as two,
    ):
        for device in (one, two):
            device.send_readings([READING])
        assert one.wait_until_kept(20)
        assert two.wait_until_kept(20)
    until_stored = time.monotonic() + 20
    while (
        len(system.query("SELECT FROM readings WHERE device_id LIKE 'tls-%'")) < 2 and time.monotonic() < until_stored
    ):
        time.sleep(0.2)
    rows = system.query("SELECT device_id, value FROM readings WHERE device_id LIKE 'tls-%'")
    assert sorted((row["device_id"], row["value"]) for row in rows) == [(by_certificate, 71.0), (by_password, 71.0)]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_server_shows_a_certificate_for_its_name(
    settings: Settings, authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    kafka = int(settings.kafka.bootstrap.rpartition(":")[2])
    operator = (Path(settings.kafka.cert_file), Path(settings.kafka.key_file))
    device = given(authority, tmp_path, "tls-looking")
    for port, own in ((settings.mqtt.port, device), (settings.mqtt.certificate_port, device), (kafka, operator)):
        made = ssl.create_default_context(cafile=str(authority.ca_file("services")))
        made.load_cert_chain(*own)
        made.maximum_version = made.minimum_version = version
        with socket.create_connection(("127.0.0.1", port)) as raw, made.wrap_socket(raw, server_hostname="localhost"):
            pass
        wrong = made.wrap_socket(
            socket.create_connection(("127.0.0.1", port)), server_hostname="other", do_handshake_on_connect=False
        )
        with wrong, pytest.raises(ssl.SSLCertVerificationError):
            wrong.do_handshake()


def test_a_revoked_device_is_cut_off_at_once_with_its_certificate(
    system: Deployment, settings: Settings, authority: Authority, tmp_path: Path
) -> None:
    name = "tls-gone"
    add(system, name)
    certificate, key = given(authority, tmp_path, name)
    ca = authority.ca_file("services")
    listening = Subscriber(
        [
            "mosquitto_sub", "-h", "127.0.0.1", "-p", str(settings.mqtt.certificate_port), "--cafile", str(ca),
            "--cert", str(certificate), "--key", str(key), "-V", "5", "-q", "1", "-t", f"v1/devices/{name}/down", "-d",
        ]
    )  # fmt: skip
    try:
        until(lambda: "Subscribed (mid" in listening.text, 10, "mosquitto_sub's subscription")
        assert system.command("device", "revoke", name, "--json")["certificates"] == 1
        listening.popen.wait(5)
    finally:
        listening.close()
    assert publish(settings, ca, f"v1/devices/{name}/status", (certificate, key))


# --- Kafka ----------------------------------------------------------------------------------------------------------


def as_service(settings: Settings, system: Deployment, name: str) -> KafkaSettings:
    folder = system.data / "ca" / "services" / "issued"
    files = {"cert_file": str(folder / f"{name}.pem"), "key_file": str(folder / f"{name}.key")}
    return settings.kafka.model_copy(update=files)


def write(kafka: KafkaSettings, topic: str) -> str:
    """Kafka's answer to a record: empty, or the first error's name."""
    answers: list[str] = []
    producer = Producer(
        {
            **kafka_options(kafka), "acks": "all", "message.timeout.ms": 6000, "log_level": 0,
            "error_cb": lambda error: answers.append(error.name()),
        }
    )  # fmt: skip
    producer.produce(topic, b"{}", on_delivery=lambda error, _: answers.append("" if error is None else error.name()))
    give_up = time.monotonic() + 8
    while not answers and time.monotonic() < give_up:
        producer.poll(0.1)
    producer.purge()
    producer.flush(1)
    return (answers or ["nothing"])[0]


def written(kafka: KafkaSettings, topic: str) -> int:
    """How many records a topic has had."""
    consumer = Consumer({**kafka_options(kafka), "group.id": "vg-none"})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return sum(consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10)[1] for n in partitions)
    finally:
        consumer.close()


def test_every_process_writes_where_the_table_says_and_nowhere_else(system: Deployment, settings: Settings) -> None:
    """One producer each; every topic is tried, but those whose record would be taken for real."""
    table = kafka_rights.table()
    for who in sorted(table):
        kafka = as_service(settings, system, who)
        answers: dict[str, str] = {}
        refused = [topic.name for topic in topics.ALL if topic.name not in table[who].get("write", ())]
        producer = Producer({**kafka_options(kafka), "acks": "all", "message.timeout.ms": 20_000, "log_level": 0})

        def told(error: KafkaError | None, message: Message, answers: dict[str, str] = answers) -> None:
            answers[str(message.topic())] = "" if error is None else error.name()

        for name in refused:
            producer.produce(name, b"{}", key=b"k", on_delivery=told)
        producer.flush(20)
        assert answers == dict.fromkeys(refused, "TOPIC_AUTHORIZATION_FAILED"), who
    assert write(as_service(settings, system, "intake"), "worker.setaside") == ""


def read(kafka: KafkaSettings, topic: str) -> str:
    """Kafka's answer to who reads a topic, in no group: empty, or the error's name."""
    consumer = KafkaConsumer(**kafka_python_options(kafka), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        consumer.assign([kafka_python.TopicPartition(topic, 0)])
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up:
            consumer.poll(timeout_ms=500)
            if consumer.position(kafka_python.TopicPartition(topic, 0)) is not None:
                return ""
        return "nothing"
    except TopicAuthorizationFailedError as error:
        return type(error).__name__
    finally:
        consumer.close()


def test_a_process_reads_what_the_table_says_only(system: Deployment, settings: Settings) -> None:
    refused = TopicAuthorizationFailedError.__name__
    for who, topic, answer in (("gateway", "device.raw", refused), ("intake", "device.raw", ""),
                               ("notifier", "device.readings", refused), ("archiver", "audit.events", "")):  # fmt: skip
        assert read(as_service(settings, system, who), topic) == answer, (who, topic)


def test_strangers_do_not_write_to_kafka(
    settings: Settings, authority: Authority, stranger: Path, tmp_path: Path
) -> None:
    topic = topics.RAW.name
    certificate, key = given(authority, tmp_path, "operator")
    clear = KafkaSettings.model_validate({"bootstrap": settings.kafka.bootstrap})
    who: dict[str, KafkaSettings] = {
        "no certificate": settings.kafka.model_copy(update={"cert_file": "", "key_file": ""}),
        "another authority's": settings.kafka.model_copy(
            update={"cert_file": str(stranger / "own.pem"), "key_file": str(stranger / "own.key")}
        ),
        "a device that is called as a service is": settings.kafka.model_copy(
            update={"cert_file": str(certificate), "key_file": str(key)}
        ),
        "in the clear": clear,
        "a server that the client does not know": settings.kafka.model_copy(
            update={"ca_file": str(stranger / "ca.pem")}
        ),
    }
    before = written(settings.kafka, topic)
    with ThreadPoolExecutor() as pool:
        answers = dict(zip(who, pool.map(lambda kafka: write(kafka, topic), who.values()), strict=True))
    assert all(answers.values()), answers
    assert "nothing" not in answers.values(), answers
    assert written(settings.kafka, topic) == before


def test_a_name_that_the_table_does_not_know_may_nothing(
    settings: Settings, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = write_pair(tmp_path, "guest", authority.issue("service", "guest", datetime.now(UTC))[1])
    guest = settings.kafka.model_copy(update={"cert_file": str(certificate), "key_file": str(key)})
    assert write(guest, topics.RAW.name) in ("TOPIC_AUTHORIZATION_FAILED", "UNKNOWN_TOPIC_OR_PART")


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


def test_our_connections_to_the_database_are_all_encrypted(settings: Settings) -> None:
    with psycopg.connect(conninfo(settings.database)) as connection:
        rows = connection.execute(
            "SELECT application_name, ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)"
            " WHERE application_name LIKE 'vitalgate %'"
        ).fetchall()
    assert len(rows) >= 3
    assert all(encrypted for _, encrypted in rows)


def test_every_process_is_somebody_of_its_own_in_the_database(settings: Settings) -> None:
    schema = settings.database.db_schema
    with psycopg.connect(conninfo(settings.database)) as connection:
        rows = connection.execute(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'vitalgate %'"
        ).fetchall()
    found = {name for (name,) in rows}
    assert {f"{schema}_{name}" for name in ("recorder", "archiver", "registrar")} <= found


def test_no_process_lacks_a_right(system: Deployment, settings: Settings) -> None:
    ours = set(kafka_rights.table()) | {"api"}
    faults = [
        line[:300]
        for path in (system.data / "logs").glob("*.log")
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if (path.stem in ours and "authoriz" in line.lower()) or "permission denied" in line
    ]
    assert faults == []


def test_the_stack_says_that_it_is_well(system: Deployment) -> None:
    health = system.command("status", "--json")["health"]
    assert all(part["ok"] for part in health.values()), health
