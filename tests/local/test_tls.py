"""TLS of broker and database by themselves, and who is kept out: asked with openssl and mosquitto's own clients."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import trustme

from tests.gateway.parts import Subscriber, until
from vitalgate.config.loading import read_secret
from vitalgate.config.settings import Settings
from vitalgate.config.transport import conninfo
from vitalgate.gateway import dynsec
from vitalgate.local.stack import Stack
from vitalgate.pki.authority import Authority, write_pair
from vitalgate.testing.deployment import Deployment

PASSWORD = "a password of this test"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("tls")
    for place in (folder, *folder.parents[:2]):  # PostgreSQL may run as another user below it
        place.chmod(place.stat().st_mode | 0o011)
    stack = Stack(folder / "stack", {"local.tls": "true"}, {"mqtt", "postgres"})
    stack.start()
    try:
        yield Deployment.running(stack.data)
    finally:
        stack.stop(remove=True)


def add(system: Deployment, device: str) -> None:
    """A device's user on the broker."""
    mqtt = system.settings.mqtt
    with dynsec.Dynsec(mqtt, read_secret(mqtt.admin_password_file, "administrator's password")) as broker:
        broker.ensure_roles()
        assert broker.run([dynsec.create(device, PASSWORD)]) == [None]


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


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_server_shows_a_certificate_for_its_name(
    settings: Settings, authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    device = given(authority, tmp_path, "tls-looking")
    for port, own in ((settings.mqtt.port, device), (settings.mqtt.certificate_port, device)):
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


def test_openssl_is_refused_below_tls_1_2(settings: Settings) -> None:
    for port in (settings.mqtt.port, settings.mqtt.certificate_port):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            input="", capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert done.returncode != 0, port


def test_the_broker_refuses_who_cannot_show_who_they_are(
    settings: Settings, authority: Authority, stranger: Path, tmp_path: Path
) -> None:
    ca, topic = authority.ca_file("services"), "v1/devices/tls-mine/status"
    mine = given(authority, tmp_path, "tls-mine")
    assert publish(settings, ca, topic, mine) == ""
    assert publish(settings, ca, topic, None), "without a certificate"
    assert publish(settings, ca, topic, (stranger / "own.pem", stranger / "own.key")), "of another authority"
    assert publish(settings, stranger / "ca.pem", topic, mine), "a client that does not know the broker's authority"
    expired = given(authority, tmp_path / "old", "tls-mine", since_days=9, days=3)
    assert publish(settings, ca, topic, expired), "expired"
    early = given(authority, tmp_path / "early", "tls-mine", since_days=-3)
    assert publish(settings, ca, topic, early), "not yet valid"
    service = authority.folder / "services" / "issued"
    assert publish(settings, ca, topic, (service / "operator.pem", service / "operator.key")), "of a service"
    forged = (mine[0], stranger / "own.key")
    assert publish(settings, ca, topic, forged), "with another's key"


def test_a_certificate_is_its_own_device_only(
    system: Deployment, settings: Settings, authority: Authority, tmp_path: Path
) -> None:
    mine, ca = given(authority, tmp_path, "tls-own"), authority.ca_file("services")
    for foreign in ("v1/devices/tls-certificate/status", "v1/devices/tls-own/receipts", "v1/alerts/care/p/a"):
        assert "Not authorized" in publish(settings, ca, foreign, mine), foreign
    # A user name of one's choice counts for nothing beside the certificate.
    claimed = ("-u", settings.mqtt.admin_username, "-P", "x")
    assert "Not authorized" in publish(settings, ca, "v1/devices/tls-certificate/status", mine, *claimed)
    assert "Not authorized" in publish(settings, ca, "$CONTROL/dynamic-security/v1", mine, *claimed)


def test_a_revoked_certificate_is_cut_off_at_once_and_stays_out(
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
        assert system.command("ca", "revoke", name, "--json")["broker_told"]
        listening.popen.wait(5)
    finally:
        listening.close()
    assert publish(settings, ca, f"v1/devices/{name}/status", (certificate, key))
    again = given(authority, tmp_path / "again", name)
    assert publish(settings, ca, f"v1/devices/{name}/status", again) == ""  # the device itself is welcome


def test_renewing_keeps_the_name_and_ends_the_old_one(
    system: Deployment, settings: Settings, authority: Authority, tmp_path: Path
) -> None:
    name = "tls-renewed"
    old = given(authority, tmp_path / "old", name)
    told = system.command("ca", "renew", name, "--out", str(tmp_path / "new"), "--json")
    topic, ca = f"v1/devices/{name}/status", authority.ca_file("services")
    assert len(told["replaced"]) == 1
    assert publish(settings, ca, topic, old)
    assert publish(settings, ca, topic, (Path(told["certificate"]), Path(told["key"]))) == ""


def test_the_database_speaks_tls_only_and_is_known_by_its_certificate(settings: Settings, stranger: Path) -> None:
    dsn = conninfo(settings.database)
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert row is not None
        assert row[0] and row[1] in ("TLSv1.2", "TLSv1.3")
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry|no encryption"):
        psycopg.connect(dsn, sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(dsn, sslrootcert=str(stranger / "ca.pem"))
