"""From settings to what each client library wants to connect with: TLS, certificates, user names.

Outside loopback everything is encrypted, and who answers must show a certificate for the name it was called by, unless
a section's `tls` says in words that it is to go in the clear.
"""

from __future__ import annotations

import functools
import ssl
from pathlib import Path
from typing import Any

from vitalgate.config.loading import SettingsError, read_secret
from vitalgate.config.settings import CLEARTEXT, DatabaseSettings, KafkaSettings, TlsSection, is_loopback

_SAFE_MODES = ("verify-full", "verify-ca", "require")
_SASL = {"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512"}


def context(section: TlsSection, name: str) -> ssl.SSLContext | None:
    """The context of a Python client for `[name]`, or None where it connects in the clear.

    Raises
    ------
    SettingsError
        When a certificate or key cannot be read.
    """
    if not section.secure:
        return None
    files = (section.ca_file, section.cert_file, section.key_file)
    return _context(name, *files, section.verify == "full", _written(*files))


@functools.lru_cache(maxsize=16)
def _context(
    name: str, ca: str, cert: str, key: str, check_hostname: bool, _times: tuple[float, ...]
) -> ssl.SSLContext:
    try:
        made = ssl.create_default_context(cafile=ca or None)
    except OSError as error:  # ssl.SSLError is one too
        raise SettingsError(f"{name}.ca_file, {ca}, holds no usable certificates: {error}") from error
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = check_hostname
    if cert:
        try:
            made.load_cert_chain(cert, key or None)
        except OSError as error:
            raise SettingsError(
                f"{name}.cert_file, {cert}, and {name}.key_file, {key}, are no certificate with its key: {error}"
            ) from error
    return made


def _written(*files: str) -> tuple[float, ...]:
    """When the files were last written: a renewed certificate is read anew."""
    times = []
    for name in files:
        try:
            times.append(Path(name).stat().st_mtime if name else 0.0)
        except OSError:
            times.append(0.0)
    return tuple(times)


def kafka_options(kafka: KafkaSettings) -> dict[str, Any]:
    """How librdkafka's clients find Kafka and say who they are. Raises SettingsError for an unreadable password."""
    options: dict[str, Any] = {"bootstrap.servers": kafka.bootstrap}
    sasl = bool(kafka.username)
    if kafka.secure or sasl:
        options["security.protocol"] = kafka_protocol(kafka)
    if kafka.secure:
        files = {
            "ssl.ca.location": kafka.ca_file,
            "ssl.certificate.location": kafka.cert_file,
            "ssl.key.location": kafka.key_file,
        }
        options |= {name: path for name, path in files.items() if path}
        options["ssl.endpoint.identification.algorithm"] = "https" if kafka.verify == "full" else "none"
    if sasl:
        options["sasl.mechanism"] = _SASL[kafka.mechanism]
        options["sasl.username"] = kafka.username
        options["sasl.password"] = read_secret(kafka.password_file, "Kafka password (kafka.password_file)")
    return options


def kafka_python_options(kafka: KafkaSettings) -> dict[str, Any]:
    """The same for kafka-python."""
    options: dict[str, Any] = {"bootstrap_servers": kafka.bootstrap.split(",")}
    if kafka.secure or kafka.username:
        options["security_protocol"] = kafka_protocol(kafka)
    if kafka.secure:
        options["ssl_context"] = context(kafka, "kafka")
        options["ssl_check_hostname"] = kafka.verify == "full"
    if kafka.username:
        options["sasl_mechanism"] = _SASL[kafka.mechanism]
        options["sasl_plain_username"] = kafka.username
        options["sasl_plain_password"] = read_secret(kafka.password_file, "Kafka password (kafka.password_file)")
    return options


def kafka_protocol(kafka: KafkaSettings) -> str:
    """Kafka's name for the way of connecting."""
    return ("SASL_" if kafka.username else "") + ("SSL" if kafka.secure else "PLAINTEXT")


def conninfo(database: DatabaseSettings) -> str:
    """The connection string with user, password and TLS as the settings have them.

    Raises
    ------
    SettingsError
        When it would send data in the clear to another machine.
    """
    if not database.dsn:
        return ""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    try:
        given = conninfo_to_dict(database.dsn)
    except ProgrammingError as error:
        raise SettingsError(f"database.dsn is no connection string: {str(error).strip()}") from None
    more: dict[str, Any] = {}
    if database.user:
        more["user"] = database.user
        if database.password_file:
            more["password"] = read_secret(database.password_file, f"password of {database.user}")
            more["passfile"] = ""
    hosts = [host.strip() for host in str(given.get("hostaddr") or given.get("host") or "").split(",")]
    near = all(is_loopback(host) for host in hosts)
    mode = given.get("sslmode")
    if database.tls == "on" or (database.tls == "auto" and not near):
        if mode is None:
            more["sslmode"] = "verify-full" if database.verify == "full" else "verify-ca"
        elif mode not in _SAFE_MODES:
            raise SettingsError(_refusal(hosts, f"database.dsn says sslmode={mode}"))
        files = {"sslrootcert": database.ca_file, "sslcert": database.cert_file, "sslkey": database.key_file}
        more |= {name: path for name, path in files.items() if path}
        if "sslrootcert" not in more and not given.get("sslrootcert") and mode is None:
            more["sslrootcert"] = "system"
    elif database.tls == "off" and not near and mode not in _SAFE_MODES:
        raise SettingsError(_refusal(hosts, "database.tls is off"))
    return make_conninfo(database.dsn, **more) if more else database.dsn


def _refusal(hosts: list[str], why: str) -> str:
    return (
        f"the database at {', '.join(hosts)} is not on this machine and {why}: passwords and readings would cross the "
        "network in the clear. Set database.tls to on and database.ca_file to the server's authority or, on a network "
        f"that you trust, set database.tls to {CLEARTEXT}"
    )
