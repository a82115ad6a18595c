"""Senders against real servers: HTTP that fails, hangs and asks for patience, SMTP with and without TLS, Apprise."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope

from tests.handover.receiver import SECRET, Receiver, receiver
from vitalgate.handover.destinations import Destinations, parse
from vitalgate.handover.notice import Notice
from vitalgate.handover.notice import test_notice as a_test
from vitalgate.handover.outcome import Outcome
from vitalgate.handover.senders import secret_faults, sender
from vitalgate.handover.signature import SignatureError, keys_of, verify
from vitalgate.handover.webhook import judge

NOTICE = Notice("id-1", "A high-priority alert needs attention", "Line one\nüber 2", {"id": "id-1", "x": "µ"}, True)


def send(book: Destinations, name: str = "d", timeout_s: float = 2.0, notice: Notice = NOTICE) -> Outcome:
    async def go() -> Outcome:
        one = sender(name, book.destination[name], book, timeout_s)
        try:
            return await one.send(notice)
        finally:
            await one.close()

    return asyncio.run(go())


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    return path


def webhook(url: str, secret: Path, more: str = "") -> Destinations:
    return parse(f'[destination.d]\nwebhook = "{url}"\nsecret = {{ file = "{secret}" }}\n{more}')


# --- webhooks ---------------------------------------------------------------------------------------------------------


def test_a_webhook_is_signed_and_carries_its_key(secret: Path) -> None:
    with receiver() as there:
        assert send(webhook(there.url, secret)) == Outcome("delivered")
    (got,) = there.got
    assert verify(keys_of(SECRET), got.headers, got.body, time.time()) == "id-1"
    assert got.headers["idempotency-key"] == "id-1" and got.headers["content-type"] == "application/json"
    assert got.document == NOTICE.document
    with pytest.raises(SignatureError, match="no signature fits"):
        verify(keys_of("another secret of thirty characters"), got.headers, got.body, time.time())
    with pytest.raises(SignatureError, match="no signature fits"):
        verify(keys_of(SECRET), got.headers, got.body + b" ", time.time())
    with pytest.raises(SignatureError, match="no signature fits"):
        verify(keys_of(SECRET), got.headers | {"webhook-id": "id-2"}, got.body, time.time())
    with pytest.raises(SignatureError, match="from the time here"):
        verify(keys_of(SECRET), got.headers, got.body, time.time() + 301)


def test_while_a_secret_is_changed_both_are_signed_with(secret: Path) -> None:
    new = "a new secret that is long enough"
    secret.write_text(f"{new}\n{SECRET}\n")
    with receiver() as there:
        assert send(webhook(there.url, secret)).result == "delivered"
    (got,) = there.got
    for keys in (keys_of(new), keys_of(SECRET)):
        assert verify(keys, got.headers, got.body, time.time()) == "id-1"


@pytest.mark.parametrize(
    ("status", "result"),
    [(200, "delivered"), (202, "delivered"), (204, "delivered"), (301, "refused"), (400, "refused"), (401, "retry"),
     (404, "retry"), (408, "retry"), (410, "refused"), (422, "refused"), (429, "retry"), (500, "retry"),
     (503, "retry")],
)  # fmt: skip
def test_what_a_status_means(status: int, result: str, secret: Path) -> None:
    with receiver(status=status) as there:
        found = send(webhook(there.url, secret))
    assert found.result == result and len(there.got) == 1
    assert found.error == ("" if result == "delivered" else f"HTTP {status}")


def test_retry_after_is_heard(secret: Path) -> None:
    with receiver(script=[(429, {"retry-after": "17"}), (503, {"retry-after": "soon"})]) as there:
        assert send(webhook(there.url, secret)).retry_after_s == 17
        assert send(webhook(there.url, secret)).retry_after_s is None
    now = datetime.now(UTC)
    asked = judge(503, format_datetime(now + timedelta(seconds=60), usegmt=True), now.timestamp()).retry_after_s
    assert asked is not None and 58 < asked <= 60
    assert judge(503, format_datetime(now - timedelta(seconds=60), usegmt=True), now.timestamp()).retry_after_s == 0


def test_a_receiver_that_hangs_is_left_in_time(secret: Path) -> None:
    with receiver(hang_s=20) as there:
        began = time.monotonic()
        found = send(webhook(there.url, secret), timeout_s=0.5)
    assert found == Outcome("retry", "no answer within 0.5 s") and time.monotonic() - began < 8


def test_a_receiver_that_drips_is_left_in_time(secret: Path) -> None:
    """A byte now and then keeps every single read short; the whole is bounded all the same."""
    import socket

    listening = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip() -> None:
        connection, _ = listening.accept()
        with connection:
            while not stop.wait(0.1):
                try:
                    connection.sendall(b"H")
                except OSError:
                    return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        assert send(webhook(url, secret), timeout_s=0.6).result == "retry"
    finally:
        stop.set()
        listening.close()
        thread.join(5)


def test_nobody_there_and_secrets_that_cannot_be_had(secret: Path) -> None:
    with receiver() as there:
        url = there.url
    assert send(webhook(url, secret)) == Outcome("retry", "nobody answers at its address")
    secret.write_text("short")
    found = send(webhook(url, secret))
    assert found.result == "retry" and "24" in found.error and "short" not in found.error.replace("too short", "")
    assert secret_faults("d", webhook(url, secret).destination["d"], webhook(url, secret)) != []
    secret.unlink()
    assert "cannot be read" in send(webhook(url, secret)).error


def test_certificates_are_checked(secret: Path, tmp_path: Path) -> None:
    """Over TLS with a certificate of an authority of one's own: trusted with ca_file, refused without."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    async def go() -> list[Outcome]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        found = []
        for more in ("", f'ca_file = "{tmp_path / "ca.pem"}"'):
            book = webhook(url, secret, more)
            one = sender("d", book.destination["d"], book, 5.0)
            found.append(await one.send(NOTICE))
            await one.close()
        server.close()
        return found

    distrusted, trusted = asyncio.run(go())
    assert distrusted.result == "retry" and "certificate" in distrusted.error
    assert trusted.result == "delivered" and len(got) == 1


# --- e-mail -----------------------------------------------------------------------------------------------------------


class Box:
    """Takes mails, or refuses them with `code`."""

    def __init__(self) -> None:
        self.code = ""
        self.mails: list[Envelope] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if self.code:
            return self.code
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        self.mails.append(envelope)
        return "250 OK"


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


@pytest.fixture(params=["starttls", "tls", "none"])
def mail(request: Any, authority: trustme.CA, tmp_path: Path) -> Iterator[tuple[Box, str]]:
    """A real mail server, and the [smtp] that reaches it."""
    security = request.param
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    box = Box()
    options: dict[str, Any] = {
        "authenticator": lambda server, session, envelope, mechanism, data: AuthResult(
            success=(data.login, data.password) == (b"vitalgate", b"letmein-secret"), handled=False
        ),
        "auth_require_tls": security == "starttls",
    }
    if security == "starttls":
        options["tls_context"] = context
        options["require_starttls"] = True
    controller = Controller(
        box, hostname="127.0.0.1", port=0, ssl_context=context if security == "tls" else None, **options
    )
    # The controller asks its own port whether it is up; it has to be known.
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        controller.port = free.getsockname()[1]
    controller.start()
    (tmp_path / "password").write_text("letmein-secret")
    text = (
        f'[smtp]\nhost = "localhost"\nport = {controller.port}\nsecurity = "{security}"\nsender = "vg@clinic.example"\n'
        f'ca_file = "{tmp_path / "ca.pem"}"\nusername = "vitalgate"\n'
        f'password = {{ file = "{tmp_path / "password"}" }}\n'
        '[destination.d]\nemail = "anna@clinic.example"\n'
    )
    try:
        yield box, text
    finally:
        controller.stop()


def test_a_mail_arrives_with_a_fixed_message_id(mail: tuple[Box, str]) -> None:
    box, text = mail
    assert send(parse(text)) == Outcome("delivered")
    assert send(parse(text)) == Outcome("delivered")
    first, second = (one.original_content or b"" for one in box.mails)
    assert b"Message-ID: <id-1@clinic.example>" in first and b"Message-ID: <id-1@clinic.example>" in second
    assert b"Idempotency-Key: id-1" in first and b"Auto-Submitted: auto-generated" in first
    assert b"Importance: high" in first and b"Subject: A high-priority alert needs attention" in first
    assert (box.mails[0].mail_from, box.mails[0].rcpt_tos) == ("vg@clinic.example", ["anna@clinic.example"])


def test_what_a_mail_server_says(mail: tuple[Box, str], tmp_path: Path) -> None:
    box, text = mail
    box.code = "550 no such user anna@clinic.example"
    assert send(parse(text)) == Outcome("refused", "SMTP 550")
    box.code = "451 try again"
    assert send(parse(text)) == Outcome("retry", "SMTP 451")
    box.code = ""
    (tmp_path / "password").write_text("wrong-secret")
    found = send(parse(text))
    assert found.result == "retry" and "user or password" in found.error and "wrong-secret" not in found.error
    (tmp_path / "password").write_text("letmein-secret")
    if 'security = "none"' not in text:
        untrusted = "\n".join(line for line in text.splitlines() if not line.startswith("ca_file"))
        found = send(parse(untrusted))
        assert found.result == "retry" and "certificate" in found.error
    assert box.mails == []


def test_a_mail_server_that_is_not_there_or_says_nothing(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        text = (
            f'[smtp]\nhost = "127.0.0.1"\nport = {port}\nsecurity = "none"\nsender = "vg@x.example"\n'
            '[destination.d]\nemail = "a@x.example"\n'
        )
        began = time.monotonic()
        assert send(parse(text), timeout_s=0.4).result == "retry"
        assert time.monotonic() - began < 8
    assert send(parse(text)).result == "retry"


# --- Apprise ----------------------------------------------------------------------------------------------------------


def test_apprise_posts_and_says_when_it_could_not(tmp_path: Path) -> None:
    with receiver() as there:
        (tmp_path / "url").write_text(there.url.replace("http://", "json://"))
        book = parse(f'[destination.d]\napprise = {{ file = "{tmp_path / "url"}" }}\n')
        assert secret_faults("d", book.destination["d"], book) == []
        assert send(book) == Outcome("delivered")
        there.status = 500
        assert send(book) == Outcome("retry", "the notification was not taken")
    got = there.got[0]
    assert got.headers["idempotency-key"] == "id-1"
    assert got.document["title"] == NOTICE.subject and "über 2" in got.document["message"]
    (tmp_path / "url").write_text("nothing://token-of-mine")
    found = send(book)
    assert found.result == "retry" and "token-of-mine" not in found.error
    (fault,) = secret_faults("d", book.destination["d"], book)
    assert "does not know the URL" in fault and "token-of-mine" not in fault


def test_a_test_notice_is_about_nobody(secret: Path) -> None:
    with receiver() as there:
        assert send(webhook(there.url, secret), notice=a_test("d", "t-1", 0)).result == "delivered"
    assert there.got[0].document["type"] == "test"


def test_the_receiver_of_the_tests_drops_repeats() -> None:
    from tests.handover.receiver import Got

    made = Receiver(got=[Got({"webhook-id": i}, b"{}", 0, s) for i, s in (("a", 500), ("a", 200), ("a", 200))])
    assert len(made.taken) == 1
