"""Webhooks: a signed POST."""

from __future__ import annotations

import asyncio
import email.utils
import ssl
import time

import httpx
import orjson

from vitalgate.handover.destinations import Destination, check_url
from vitalgate.handover.notice import Notice
from vitalgate.handover.outcome import DELIVERED, Outcome
from vitalgate.handover.secret import Secret, SecretError
from vitalgate.handover.signature import SignatureError, keys_of, sign

#: What no repetition makes better. Others, a 404 while the receiver is being installed too, may pass.
_FOR_GOOD = frozenset({400, 405, 406, 410, 411, 413, 414, 415, 422, 431, 501})


class Webhook:
    """Sends to one URL. Redirects are not followed: a signature is for one receiver."""

    def __init__(self, destination: Destination, timeout_s: float) -> None:
        assert destination.webhook is not None and destination.secret is not None
        self._url = destination.webhook
        self._secret = destination.secret
        self._allow_http = destination.allow_http
        self._timeout_s = timeout_s
        context = ssl.create_default_context(cafile=destination.ca_file or None)
        self._client = httpx.AsyncClient(
            verify=context, timeout=timeout_s, follow_redirects=False, trust_env=False,
            limits=httpx.Limits(max_connections=destination.at_once, max_keepalive_connections=destination.at_once),
            headers={"user-agent": "vitalgate", "content-type": "application/json"},
        )  # fmt: skip

    async def send(self, notice: Notice) -> Outcome:
        """One attempt, cut off after the timeout however slowly the receiver answers."""
        try:
            url = self._url.read("the webhook's URL") if isinstance(self._url, Secret) else self._url
            check_url(url, self._allow_http)
            keys = keys_of(self._secret.read("the webhook's signing secret"))
        except (SecretError, SignatureError, ValueError) as error:
            return Outcome("retry", str(error))
        body = orjson.dumps(notice.document)
        now = int(time.time())
        headers = {
            "webhook-id": notice.id, "webhook-timestamp": str(now), "idempotency-key": notice.id,
            "webhook-signature": sign(keys, notice.id, now, body),
        }  # fmt: skip
        try:
            async with asyncio.timeout(self._timeout_s):
                # What the answer says is not read: its status is the answer.
                async with self._client.stream("POST", url, content=body, headers=headers) as answer:
                    return judge(answer.status_code, answer.headers.get("retry-after", ""), time.time())
        except (TimeoutError, httpx.TimeoutException):
            return Outcome("retry", f"no answer within {self._timeout_s:g} s")
        except httpx.ConnectError as error:
            return Outcome("retry", _connect(error))
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            return Outcome("retry", f"the connection failed ({type(error).__name__})")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def judge(status: int, retry_after: str, now: float) -> Outcome:
    """What an HTTP status says of a delivery."""
    if 200 <= status < 300:
        return DELIVERED
    if status in _FOR_GOOD or 300 <= status < 400:
        return Outcome("refused", f"HTTP {status}")
    asked = _seconds(retry_after, now) if status in (429, 503) else None
    return Outcome("retry", f"HTTP {status}", asked)


def _seconds(text: str, now: float) -> float | None:
    """Retry-After (RFC 9110): seconds or a date."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _connect(error: httpx.ConnectError) -> str:
    text = str(error).lower()
    if "certificate" in text or "ssl" in text:
        return "the receiver's certificate cannot be trusted; is ca_file right?"
    return "nobody answers at its address"
