"""A migrated schema with made-up people, and the API before it as a real server."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
import uvicorn
from argon2 import PasswordHasher
from psycopg import sql
from starlette.types import ASGIApp

from tests.api.people import Person, log_in, populate
from tests.storage.records_cast import KEYS
from vitalgate.api.app import make_app, make_services
from vitalgate.api.hub import Hub
from vitalgate.api.serve import Server, configuration, listen
from vitalgate.api.services import Services
from vitalgate.config.settings import Settings
from vitalgate.pki.keyring import KeyRing
from vitalgate.storage import records_passwords as passwords
from vitalgate.storage.migrate import migrate


@pytest.fixture(scope="session")
def dsn(request: pytest.FixtureRequest) -> str:
    """Owner's connection string; TEST_POSTGRES_DSN names a server that already runs."""
    return os.environ.get("TEST_POSTGRES_DSN") or str(request.getfixturevalue("postgres_dsn"))


@pytest.fixture(scope="package", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Passwords are hashed with the least cost there is: log-in is tried here, not how long argon2id takes."""
    passwords._hasher.cache_clear()
    passwords._nobody.cache_clear()
    least = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", lambda cost: least)
        yield
    passwords._nobody.cache_clear()


@pytest.fixture(scope="session")
def ring() -> KeyRing:
    """A key ring."""
    return KEYS


@pytest.fixture(scope="session")
def api_settings(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a migrated schema."""
    schema = f"vgapi_{os.getpid()}"
    settings = Settings.model_validate({
        "database": {"dsn": dsn, "db_schema": schema, "timescale": "off"},
        "api": {
            "port": 0, "files": str(tmp_path_factory.mktemp("files")), "requests_per_s": 10_000,
            "requests_burst": 100_000, "anonymous_per_s": 10_000, "anonymous_burst": 100_000, "live_heartbeat_s": 1,
            "upload_max_mb": 2,
        },
        "log": {"level": "warning"},
    })  # fmt: skip
    migrate(settings.database)
    yield settings
    if not os.environ.get("TEST_POSTGRES_DSN"):  # a server of our own is removed as a whole
        return
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = error")
        for name in (f"{schema}_records", schema, f"{schema}_data"):
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))
        for role in (f"{schema}_app", f"{schema}_auth"):
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@dataclass
class Api:
    """A running API."""

    url: str
    services: Services
    people: dict[str, Person]
    hub: Hub

    def client(self, name: str = "", **options: object) -> httpx.Client:
        """A client, logged in as somebody."""
        headers = self.people[name].headers if name else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)


class Running:
    """A server in a thread."""

    def __init__(self, app: ASGIApp, stopping: object) -> None:
        self.listener = listen("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        self.server: uvicorn.Server = Server(configuration(app, "127.0.0.1", self.port), stopping)  # type: ignore[arg-type]  # a callable
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True)

    def __enter__(self) -> Running:
        self.thread.start()
        until = time.monotonic() + 30
        while not self.server.started:
            assert time.monotonic() < until, "the API did not start"
            time.sleep(0.02)
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.should_exit = True
        self.thread.join(20)


@pytest.fixture(scope="session")
def api(api_settings: Settings, ring: KeyRing) -> Iterator[Api]:
    """The API with people logged in."""
    services = make_services(api_settings, ring)
    app = make_app(services)
    with Running(app, lambda: app.state.hub.stop()) as running:
        people = populate(services.database, api_settings)
        services.base_url = url = f"http://127.0.0.1:{running.port}"
        with httpx.Client(base_url=url, timeout=30) as client:
            for person in people.values():
                log_in(client, person)
        yield Api(url, services, people, app.state.hub)


@pytest.fixture
def files_folder(api: Api) -> Path:
    """Where the API keeps files."""
    return Path(api.services.settings.api.files)
