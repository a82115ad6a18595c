"""X.509 certificates and revocation lists (RFC 5280): what ours say. No files; keys come from the system's randomness.

All keys are ECDSA on P-256, which Mosquitto, Kafka's JVM, PostgreSQL and small devices all take. A certificate's
subject is `CN=<name>, OU=<kind>, O=Vitalgate`: the name of a device is its id, that of a service what its access rules
call it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Kind = Literal["device", "service", "server", "node"]
ORGANISATION: Final = "Vitalgate"
CA_DAYS: Final = 3650
DAYS: Final = 365
#: A clock that is a little behind must not refuse a certificate that was made a moment ago.
BACKDATED: Final = timedelta(minutes=5)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_USES = {
    "device": (ExtendedKeyUsageOID.CLIENT_AUTH,),
    "service": (ExtendedKeyUsageOID.CLIENT_AUTH,),
    "server": (ExtendedKeyUsageOID.SERVER_AUTH,),
    # Nodes of a Kafka cluster are each other's clients.
    "node": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
}


class PkiError(ValueError):
    """A certificate cannot be made, found or used; the text says why and what to do."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM; no `repr` shows the key."""

    certificate: str
    key: str = field(repr=False)

    @property
    def parsed(self) -> x509.Certificate:
        """The certificate's fields."""
        return x509.load_pem_x509_certificate(self.certificate.encode())

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        """The private key. Raises PkiError when it is of another kind."""
        key = serialization.load_pem_private_key(self.key.encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise PkiError(f"the authority's key is {type(key).__name__}; an elliptic curve key is needed")
        return key


def check_name(name: str) -> str:
    """A name that may stand in a subject. Raises PkiError."""
    if not _NAME.fullmatch(name):
        raise PkiError(
            f"{name!r} cannot be a certificate's name: 1 to 64 letters, digits, '.', '_' or '-', the first a letter or "
            "digit"
        )
    return name


def new_authority(name: str, now: datetime, days: int = CA_DAYS) -> Pair:
    """A self-signed authority that may sign certificates and revocation lists, but no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name, "authority")
    builder = (
        _builder(subject, subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Pair(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def issue(
    authority: Pair, kind: Kind, name: str, now: datetime, *, days: int = DAYS, hosts: Sequence[str] = ()
) -> Pair:
    """A certificate with a new key.

    Parameters
    ----------
    hosts
        Names and addresses that a server is reached by.

    Raises
    ------
    PkiError
        For a name that cannot be, a server without hosts, or an authority that ends earlier.
    """
    if kind in ("server", "node") and not hosts:
        raise PkiError(f"a server's certificate needs the names it is reached by: `--host` for {name}")
    issuer = authority.parsed
    end = now + timedelta(days=days)
    if days < 1 or end > issuer.not_valid_after_utc:
        left = (issuer.not_valid_after_utc - now).days
        raise PkiError(f"a certificate of {days} days cannot be made: it must be 1 to {left}, the authority's own end")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_subject(check_name(name), kind), issuer.subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_USES[kind]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.private.public_key()), critical=False
        )
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    return Pair(_pem(builder.sign(authority.private, hashes.SHA256())), _key_pem(key))


def revocation_list(authority: Pair, revoked: Iterable[tuple[int, datetime]], now: datetime, number: int) -> str:
    """The list (PEM) of serial numbers that are no longer valid, good for as long as the authority is.

    It is pushed to the servers when it changes, so that it needs no earlier end: one that ends keeps everybody out.
    """
    issuer = authority.parsed
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - BACKDATED)
        .next_update(issuer.not_valid_after_utc)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.private.public_key()), critical=False
        )
    )
    for serial, when in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        )
    return builder.sign(authority.private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, hex: what `openssl x509 -fingerprint -sha256` prints, without colons."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def common_name(certificate: x509.Certificate) -> str:
    """The name in the subject."""
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _subject(name: str, kind: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, kind),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs, crl_sign=signs, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
