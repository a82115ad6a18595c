"""Apache Kafka's jars: versions and hashes are pinned in ``kafka.jars``; jgo fetches them once into the user's cache.

``python -m vitalgate.local.jars`` resolves ``ENDPOINTS`` anew and rewrites the pin file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vitalgate.local.errors import PartError

#: What the pin file is resolved from. Log4j's binding is not among Kafka's Maven dependencies, only in its tarball.
ENDPOINTS = ("org.apache.kafka:kafka_2.13:4.1.2", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3")
PIN_FILE = Path(__file__).with_name("kafka.jars")
_TIMEOUT_S = 120


@dataclass(frozen=True)
class Jar:
    """One pinned artifact."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """Name of the jar in the cache."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinate(self) -> str:
        """Maven coordinate, `group:artifact:version`."""
        return f"{self.group}:{self.artifact}:{self.version}"


def cache_directory() -> Path:
    """The user's cache of downloaded parts, shared by all stacks of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vitalgate"


def pinned(text: str | None = None) -> list[Jar]:
    """The jars of the pin file, Kafka's own first."""
    jars = []
    for line in (PIN_FILE.read_text(encoding="utf-8") if text is None else text).splitlines():
        if line.strip() and not line.startswith("#"):
            coordinate, digest = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, digest))
    return jars


def kafka_version() -> str:
    """Version of Kafka in the pin file."""
    return pinned()[0].version


def classpath(
    cache: Path | None = None,
    *,
    jars: list[Jar] | None = None,
    fetch: Callable[[Jar], Path] | None = None,
) -> list[Path]:
    """Paths of all jars, fetching those that are missing.

    With everything in the cache nothing but the files' presence is looked at: no network, no hashing. A jar enters
    the cache only by a rename after its hash was found right, so presence means intact.

    Raises
    ------
    PartError
        When a jar cannot be fetched or is not the pinned one.
    """
    jars = pinned() if jars is None else jars
    folder = (cache or cache_directory()) / f"kafka-{jars[0].version}"
    missing = [jar for jar in jars if not (folder / jar.filename).is_file()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        fetcher = fetch or _fetch_with_jgo()
        with ThreadPoolExecutor(4, thread_name_prefix="jars") as pool:
            for _ in pool.map(lambda jar: _take(jar, folder, fetcher), missing):
                pass
    return [folder / jar.filename for jar in jars]


def _take(jar: Jar, folder: Path, fetch: Callable[[Jar], Path]) -> None:
    try:
        source = fetch(jar)
    except Exception as error:  # whatever the HTTP library raises: the remedy is the same
        raise PartError(
            f"Kafka's jar {jar.coordinate} could not be fetched from Maven Central ({error}); check the network and "
            "try again, or set kafka.bootstrap to a Kafka of your own"
        ) from error
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{jar.filename}.", delete=False) as part:
        digest = hashlib.sha256()
        with source.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
                part.write(block)
    if digest.hexdigest() != jar.sha256:
        Path(part.name).unlink()
        raise PartError(
            f"Kafka's jar {jar.coordinate} has SHA-256 {digest.hexdigest()}, pinned is {jar.sha256}; "
            f"remove {source} and try again"
        )
    Path(part.name).chmod(0o644)
    Path(part.name).replace(folder / jar.filename)


def _fetch_with_jgo() -> Callable[[Jar], Path]:
    from jgo.maven import MavenContext

    logging.getLogger("jgo").setLevel(logging.WARNING)
    context = MavenContext(timeout=_TIMEOUT_S)

    def fetch(jar: Jar) -> Path:
        component = context.project(jar.group, jar.artifact).at_version(jar.version)
        return Path(component.artifact().resolve())

    return fetch


def resolve() -> list[Jar]:
    """Resolve ``ENDPOINTS`` with jgo and hash every jar; for whoever raises the pinned version."""
    import jgo

    found: dict[str, Jar] = {}
    for endpoint in ENDPOINTS:
        for artifact in jgo.resolve(endpoint):
            if artifact.packaging == "jar" and f"{artifact.groupId}:{artifact.artifactId}" not in found:
                digest = hashlib.sha256(Path(artifact.resolve()).read_bytes()).hexdigest()
                found[f"{artifact.groupId}:{artifact.artifactId}"] = Jar(
                    artifact.groupId, artifact.artifactId, artifact.version, digest
                )
    return list(found.values())


def clear(cache: Path | None = None) -> None:
    """Remove the cached jars."""
    shutil.rmtree((cache or cache_directory()) / f"kafka-{kafka_version()}", ignore_errors=True)


def main() -> None:
    """Rewrite the pin file."""
    lines = ["# Kafka and what it needs at run time: `python -m vitalgate.local.jars` rewrites this file."]
    lines += [f"{jar.coordinate} {jar.sha256}" for jar in resolve()]
    PIN_FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines) - 1} jars pinned in {PIN_FILE.name}")


if __name__ == "__main__":
    main()
