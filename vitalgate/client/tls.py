"""The files by which a device knows the broker, and the broker the device."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path


class TlsError(Exception):
    """A certificate or key cannot be used; the text names the file."""


@dataclass(frozen=True)
class Tls:
    """How a device's connection is encrypted. TLS 1.2 at least; the broker's name is always checked.

    Attributes
    ----------
    ca_file
        Authorities (PEM), of which one signed the broker's certificate; None: those that the system trusts.
    cert_file, key_file
        The device's own certificate and key (PEM), for a broker that tells devices by them.
    """

    ca_file: str | Path | None = None
    cert_file: str | Path | None = None
    key_file: str | Path | None = None

    def context(self) -> ssl.SSLContext:
        """The context. Raises TlsError when a file cannot be used."""
        try:
            made = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        except OSError as error:  # ssl.SSLError is one too
            raise TlsError(f"the authority's file {self.ca_file} cannot be used: {error}") from error
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file:
            try:
                made.load_cert_chain(str(self.cert_file), str(self.key_file) if self.key_file else None)
            except OSError as error:
                raise TlsError(
                    f"{self.cert_file} and {self.key_file} are no certificate with its key: {error}"
                ) from error
        return made
