"""TLS of the one-machine stack: an authority of its own in the data directory, and a certificate for everyone in it."""

from __future__ import annotations

import os
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509

from vitalgate.config.kafka_rights import ADMIN, NODE, people
from vitalgate.config.loading import env_name
from vitalgate.config.settings import KafkaSettings, SecuritySettings
from vitalgate.local.layout import Layout
from vitalgate.local.ports import HOST
from vitalgate.pki.authority import Authority, write_pair
from vitalgate.pki.certificates import Kind

HOSTS: Final = (HOST, "::1", "localhost")
#: A certificate that ends sooner is made anew when the stack starts.
RENEW_BEFORE: Final = timedelta(days=30)
_FOLDER = "issued"


class Files(NamedTuple):
    """A certificate and its key."""

    certificate: Path
    key: Path


def ca_folder(layout: Layout, security: SecuritySettings) -> Path:
    """Where the stack's authorities are."""
    return Path(security.ca_dir) if security.ca_dir else layout.data / "ca"


class LocalTls:
    """Certificates of a stack's servers and processes, made when they are missing or about to end."""

    def __init__(self, layout: Layout, security: SecuritySettings) -> None:
        self.authority = Authority(ca_folder(layout, security))
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Make the authorities, and the certificates of all our processes."""
        self.authority.init(datetime.now(UTC))
        for name in (ADMIN, *people()):
            self.service(name)

    @property
    def ca(self) -> Path:
        """Who signed the servers' and services' certificates."""
        return self.authority.ca_file("services")

    @property
    def devices_ca(self) -> Path:
        """Who signed the devices' certificates."""
        return self.authority.ca_file("devices")

    @property
    def devices_crl(self) -> Path:
        """Which of those were revoked."""
        return self.authority.crl_file("devices")

    def context(self, service: str = ADMIN) -> ssl.SSLContext:
        """A client's context, by one of our processes' certificates."""
        own = self.service(service)
        made = ssl.create_default_context(cafile=str(self.ca))
        made.load_cert_chain(own.certificate, own.key)
        return made

    def server(self, name: str) -> Files:
        """A server's certificate, for this machine's names."""
        return self._files("server", name, HOSTS)

    def node(self, name: str = NODE) -> Files:
        """That of a Kafka node."""
        return self._files("node", name, HOSTS)

    def service(self, name: str) -> Files:
        """That of one of our processes."""
        return self._files("service", name, ())

    def acting(self, kafka: KafkaSettings, name: str) -> KafkaSettings:
        """How one of our processes connects to Kafka."""
        own = self.service(name)
        return kafka.model_copy(update={"cert_file": str(own.certificate), "key_file": str(own.key)})

    def environments(self) -> dict[str, dict[str, str]]:
        """By the name of each process, the settings that say which certificate is its own."""
        return {
            name: {
                env_name("kafka.cert_file"): str(self.service(name).certificate),
                env_name("kafka.key_file"): str(self.service(name).key),
            }
            for name in people()
        }

    def _files(self, kind: Kind, name: str, hosts: tuple[str, ...]) -> Files:
        folder = self.authority.folder / "services" / _FOLDER
        files = Files(folder / f"{name}.pem", folder / f"{name}.key")
        now = datetime.now(UTC)
        with self._lock:
            if not _lasts(files, now + RENEW_BEFORE):
                _, pair = self.authority.issue(kind, name, now, hosts=hosts)
                write_pair(folder, name, pair)
        return files


def _lasts(files: Files, until: datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    except (OSError, ValueError):
        return False
    return files.key.is_file() and certificate.not_valid_after_utc > until


def joined(files: Files, target: Path) -> Path:
    """Key and certificate in one file, as Kafka reads them."""
    text = files.key.read_text(encoding="utf-8") + files.certificate.read_text(encoding="utf-8")
    part = target.with_name(f".{target.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    part.replace(target)
    return target
