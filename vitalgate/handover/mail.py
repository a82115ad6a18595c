"""E-mail over SMTP."""

from __future__ import annotations

import asyncio
import contextlib
import email.policy
import smtplib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.message import EmailMessage

from vitalgate.handover.destinations import Destination, MailServer
from vitalgate.handover.notice import Notice
from vitalgate.handover.outcome import DELIVERED, Outcome
from vitalgate.handover.secret import SecretError


class Mail:
    """Sends to one address, over a connection of its own each time."""

    def __init__(self, destination: Destination, server: MailServer, timeout_s: float) -> None:
        self._to = destination.email
        self._server = server
        self._timeout_s = timeout_s
        # Threads of its own: a server that hangs holds up nobody else.
        self._threads = ThreadPoolExecutor(destination.at_once, "mail")

    async def send(self, notice: Notice) -> Outcome:
        """One attempt."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._send, notice)

    async def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _send(self, notice: Notice) -> Outcome:
        server = self._server
        try:
            password = server.password.read("the mail server's password") if server.password else ""
            connection = self._connected()
            try:
                if server.username:
                    connection.login(server.username, password)
                connection.send_message(message(notice, server.sender, self._to), server.sender, [self._to])
                # It is delivered now, whatever becomes of the farewell.
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    connection.quit()
            finally:
                connection.close()
        except SecretError as error:
            return Outcome("retry", str(error))
        except smtplib.SMTPRecipientsRefused as error:
            return _answered(min((code for code, _ in error.recipients.values()), default=450))
        except smtplib.SMTPAuthenticationError as error:
            # A password may be put right; what is asked of the receiver is right.
            return Outcome("retry", f"SMTP {error.smtp_code}: user or password were not taken")
        except smtplib.SMTPResponseException as error:
            return _answered(error.smtp_code)
        except smtplib.SMTPServerDisconnected:
            return Outcome("retry", "the mail server hung up or did not answer in time")
        except smtplib.SMTPNotSupportedError:
            return Outcome("retry", "the mail server offers no STARTTLS or no login; look at smtp.security")
        except ssl.SSLCertVerificationError:
            return Outcome("retry", "the mail server's certificate cannot be trusted; is smtp.ca_file right?")
        except TimeoutError:
            return Outcome("retry", f"no answer within {self._timeout_s:g} s")
        except (smtplib.SMTPException, OSError) as error:
            return Outcome("retry", f"the connection failed ({type(error).__name__})")
        return DELIVERED

    def _connected(self) -> smtplib.SMTP:
        server, host = self._server, socket.gethostname()
        context = None
        if server.security != "none":
            context = ssl.create_default_context(cafile=server.ca_file or None)
        if server.security == "tls":
            return smtplib.SMTP_SSL(server.host, server.at, host, timeout=self._timeout_s, context=context)
        connection = smtplib.SMTP(server.host, server.at, host, timeout=self._timeout_s)
        if context is not None:
            try:
                connection.starttls(context=context)
            except BaseException:
                connection.close()
                raise
        return connection


def message(notice: Notice, sender: str, to: str) -> EmailMessage:
    """The mail: plain text, marked as sent by a program, with the same Message-ID in every attempt."""
    made = EmailMessage(policy=email.policy.SMTP)
    made["From"], made["To"] = sender, to
    made["Subject"] = notice.subject
    made["Date"] = datetime.now(UTC)
    made["Message-ID"] = f"<{notice.id}@{sender.partition('@')[2]}>"
    made["Idempotency-Key"] = notice.id
    made["Auto-Submitted"] = "auto-generated"
    if notice.urgent:
        made["Importance"] = "high"
        made["X-Priority"] = "1"
    made.set_content(notice.text + "\n")
    return made


def _answered(code: int) -> Outcome:
    return Outcome("refused" if 500 <= code < 600 else "retry", f"SMTP {code}")
