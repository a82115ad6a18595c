"""The authorities: what they sign, what they remember, what they revoke; read by openssl too."""

from __future__ import annotations

import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from vitalgate.pki import certificates
from vitalgate.pki.authority import Authority, write_pair
from vitalgate.pki.certificates import PkiError

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "ca")
    made.init(datetime.now(UTC))
    return made


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)


def verifies(authority: Authority, branch: str, certificate: Path, *more: str) -> bool:
    ca, crl = authority.ca_file(branch), authority.crl_file(branch)  # type: ignore[arg-type]
    return openssl("verify", "-crl_check", "-CAfile", ca, "-CRLfile", crl, *more, certificate).returncode == 0


def test_openssl_takes_a_device_for_a_client_and_no_server(authority: Authority, tmp_path: Path) -> None:
    _, pair = authority.issue("device", "bp-17", datetime.now(UTC))
    certificate, key = write_pair(tmp_path, "bp-17", pair)
    assert verifies(authority, "devices", certificate, "-purpose", "sslclient")
    assert not verifies(authority, "devices", certificate, "-purpose", "sslserver")
    assert not verifies(authority, "services", certificate)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    subject = openssl("x509", "-in", certificate, "-noout", "-subject", "-nameopt", "RFC2253").stdout
    assert subject.strip() == "subject=CN=bp-17,OU=device,O=Vitalgate"


def test_a_server_is_known_by_its_hosts_and_a_node_is_a_client_too(authority: Authority, tmp_path: Path) -> None:
    _, pair = authority.issue("server", "broker", datetime.now(UTC), hosts=["broker.example", "192.0.2.7"])
    server, _ = write_pair(tmp_path, "broker", pair)
    _, pair = authority.issue("node", "node", datetime.now(UTC), hosts=["kafka"])
    node, _ = write_pair(tmp_path, "node", pair)
    assert verifies(authority, "services", server, "-verify_hostname", "broker.example", "-purpose", "sslserver")
    assert verifies(authority, "services", server, "-verify_ip", "192.0.2.7")
    assert not verifies(authority, "services", server, "-verify_hostname", "other.example")
    assert not verifies(authority, "services", server, "-purpose", "sslclient")
    assert verifies(authority, "services", node, "-purpose", "sslclient")


def test_what_is_revoked_is_on_the_list_and_nothing_else(authority: Authority, tmp_path: Path) -> None:
    kept = write_pair(tmp_path, "kept", authority.issue("device", "kept", datetime.now(UTC))[1])[0]
    entry, pair = authority.issue("device", "gone", datetime.now(UTC))
    gone = write_pair(tmp_path, "gone", pair)[0]
    assert verifies(authority, "devices", gone)
    assert [each.serial for each in authority.revoke("gone", datetime.now(UTC))] == [entry.serial]
    assert not verifies(authority, "devices", gone)
    assert verifies(authority, "devices", kept)
    assert authority.find("gone").state(datetime.now(UTC)) == "revoked"
    with pytest.raises(PkiError, match="no valid certificate"):
        authority.revoke("gone", datetime.now(UTC))
    again = write_pair(tmp_path, "again", authority.issue("device", "gone", datetime.now(UTC))[1])[0]
    assert verifies(authority, "devices", again)


def test_lists_are_numbered_upwards(authority: Authority) -> None:
    numbers = []
    for name in ("a", "b", "c"):
        authority.issue("device", name, datetime.now(UTC))
        authority.revoke(name, datetime.now(UTC))
        crl = x509.load_pem_x509_crl(authority.crl_file("devices").read_bytes())
        numbers.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
        assert len(list(crl)) == len(numbers)
    assert numbers == sorted(set(numbers))


def test_an_expired_certificate_says_so(authority: Authority) -> None:
    entry, _ = authority.issue("device", "old", datetime.now(UTC) - timedelta(days=3), days=2)
    assert entry.state(datetime.now(UTC)) == "expired"


def test_making_authorities_again_changes_nothing(authority: Authority) -> None:
    before = authority.ca_file("devices").read_bytes()
    authority.issue("device", "a", datetime.now(UTC))
    assert authority.init(datetime.now(UTC)) == []
    assert authority.ca_file("devices").read_bytes() == before
    assert [entry.name for entry in authority.listed()] == ["a"]
    for path in authority.folder.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ä", "x" * 65, "-a", "a\n", "a,OU=service", "+", "#"])
def test_a_name_that_could_be_another_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(PkiError, match="cannot be a certificate's name"):
        authority.issue("device", name, datetime.now(UTC))


def test_no_device_gets_the_name_of_a_user_of_ours(authority: Authority) -> None:
    with pytest.raises(PkiError, match="Vitalgate's own users"):
        authority.issue("device", "vg-admin", datetime.now(UTC))


def test_a_server_without_hosts_and_one_that_outlives_its_authority_are_refused(authority: Authority) -> None:
    with pytest.raises(PkiError, match="--host"):
        authority.issue("server", "broker", datetime.now(UTC))
    with pytest.raises(PkiError, match="must be 1 to 36"):
        authority.issue("device", "a", datetime.now(UTC), days=4000)


def test_without_an_authority_the_text_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="vitalgate ca init"):
        Authority(tmp_path / "none").issue("device", "a", NOW)
    with pytest.raises(PkiError, match="vitalgate ca init"):
        Authority(tmp_path / "none").revoke("a", NOW)


def test_keys_are_not_shown_by_repr() -> None:
    pair = certificates.new_authority("test", NOW)
    assert "PRIVATE" not in repr(pair)
