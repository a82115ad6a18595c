"""Is it up? One question to each kind of server.

Kafka is asked in its own protocol: a client library would go on asking by itself, and log what it does not find.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import LiteralString

#: Asks once; raises OSError or ProbeError when the answer is no.
Probe = Callable[[], Awaitable[None]]


class ProbeError(Exception):
    """The server answered, but not that it is ready."""


async def _ask(host: str, port: int, request: bytes, count: int, tls: ssl.SSLContext | None = None) -> bytes:
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        writer.write(request)
        await writer.drain()
        return await reader.readexactly(count)
    except asyncio.IncompleteReadError as error:
        raise ProbeError(f"{host}:{port} closed the connection") from error
    finally:
        writer.close()


async def mqtt(host: str, port: int, username: str, password: str, tls: ssl.SSLContext | None = None) -> None:
    """Connect as this user and leave again."""
    import aiomqtt

    try:
        async with aiomqtt.Client(
            host,
            port,
            username=username,
            password=password,
            identifier=f"{username}-probe",
            timeout=2,
            tls_context=tls,
        ):
            pass
    except aiomqtt.MqttError as error:
        raise ProbeError(f"the broker at {host}:{port} does not take {username}: {error}") from error


async def listens(host: str, port: int) -> None:
    """Somebody takes connections."""
    _, writer = await asyncio.open_connection(host, port)
    writer.close()


async def kafka(host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
    """ApiVersions (version 0), which a broker answers once it serves requests."""
    body = struct.pack(">hhih", 18, 0, 7, -1)
    answer = await _ask(host, port, struct.pack(">i", len(body)) + body, 10, tls)
    if struct.unpack(">ih", answer[4:10]) != (7, 0):
        raise ProbeError(f"{host}:{port} does not answer as Kafka")


async def own_kafka(host: str, port: int, cluster: str, tls: ssl.SSLContext | None = None) -> None:
    """Metadata (version 2): the broker serves requests, and it is one of this cluster.

    Two stacks that start at the same moment may choose the same free port; the one that loses must not take the
    other's broker for its own.
    """
    body = struct.pack(">hhihi", 3, 2, 7, -1, 0)
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        writer.write(struct.pack(">i", len(body)) + body)
        await writer.drain()
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        found = _cluster_id(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, struct.error) as error:
        raise ProbeError(f"{host}:{port} does not answer as Kafka") from error
    finally:
        writer.close()
    if found != cluster:
        raise ProbeError(f"{host}:{port} is the Kafka of another stack (cluster {found}, not {cluster})")


def _cluster_id(answer: bytes) -> str | None:
    """The cluster id of a Metadata response of version 2."""
    brokers, at = struct.unpack_from(">i", answer, 4)[0], 8

    def text() -> str | None:
        nonlocal at
        (length,) = struct.unpack_from(">h", answer, at)
        at += 2
        if length < 0:
            return None
        at += length
        return answer[at - length : at].decode("utf-8", "replace")

    for _ in range(brokers):
        at += 4
        text()
        at += 4
        text()
    return text()


async def http_ready(host: str, port: int, path: str = "/readyz") -> None:
    """GET and expect status 200."""
    request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()
    answer = await _ask(host, port, request, 12)
    if answer[9:12] != b"200":
        raise ProbeError(f"http://{host}:{port}{path} answered {answer[9:12].decode('ascii', 'replace')}")


async def postgres(dsn: str, statement: LiteralString = "SELECT 1") -> None:
    """Run one statement, outside a transaction."""
    import psycopg

    def ask() -> None:
        with psycopg.connect(dsn, connect_timeout=2, autocommit=True) as connection:
            connection.execute(statement)

    try:
        await asyncio.to_thread(ask)
    except psycopg.Error as error:
        raise ProbeError(str(error).strip().replace("\n", "; ")) from error


async def any_kafka(bootstrap: str, tls: ssl.SSLContext | None = None) -> None:
    """Ask the servers of a bootstrap list; one that answers is enough."""
    last: Exception = ProbeError("kafka.bootstrap is empty")
    for entry in bootstrap.split(","):
        host, _, port = entry.strip().rpartition(":")
        try:
            await kafka(host, int(port), tls)
            return
        except (OSError, ProbeError, ValueError) as error:
            last = error
    raise last
