"""RabbitMQ with its MQTT plugin: a node of its own in the data directory, for no root and beside any other RabbitMQ.

Erlang nodes find each other by `epmd`, which has a port of its own here too. All ports are on the loopback interface.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
from pathlib import Path

from vitalgate.config import rabbit_definitions
from vitalgate.config.loading import Loaded
from vitalgate.local import probes
from vitalgate.local.child import Spec
from vitalgate.local.deploy import deploy_file
from vitalgate.local.errors import PartError
from vitalgate.local.layout import Layout, State, write_private
from vitalgate.local.ports import HOST, Ports
from vitalgate.local.tls import LocalTls

DEFAULT_PORT = 1883
DEFAULT_TLS_PORT = 8883
DEFAULT_API_PORT = 15672
#: Name of the process in `vitalgate status` and of its log.
NAME = "rabbitmq"
_NODE = "vitalgate@localhost"
#: Debian's command on PATH becomes another user; the script behind it does not.
_SCRIPTS = ("/usr/lib/rabbitmq/bin/rabbitmq-server",)
_PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/usr/local/opt/rabbitmq/sbin")
_REMEDY = (
    "install it (Debian, Ubuntu: apt-get install rabbitmq-server; macOS: brew install rabbitmq), leave --broker out "
    "for Mosquitto, or set mqtt.host and mqtt.api_url to a RabbitMQ of your own"
)
_GRACE_S = 20.0
_ATOM_MOST = 255


def executable() -> Path:
    """RabbitMQ's start script.

    Raises
    ------
    PartError
        When it is not installed.
    """
    for place in _SCRIPTS:
        if os.access(place, os.X_OK):
            return Path(place)
    found = shutil.which("rabbitmq-server", path=os.pathsep.join([os.environ.get("PATH", ""), *_PLACES]))
    if not found:
        raise PartError(f"RabbitMQ (`rabbitmq-server`) is not on this machine; {_REMEDY}")
    return Path(found)


def port_mapper() -> Path:
    """Erlang's `epmd`.

    Raises
    ------
    PartError
        When it is not installed.
    """
    found = shutil.which("epmd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/bin", *_PLACES]))
    if not found:
        raise PartError(f"Erlang's `epmd` is not on this machine; {_REMEDY}")
    return Path(found)


class RabbitMq:
    """The broker part of a stack, in place of `Mosquitto`."""

    name = "mqtt"

    def __init__(self, layout: Layout, state: State, ports: Ports, loaded: Loaded) -> None:
        self._layout = layout
        self._ports = ports
        self._mqtt = loaded.settings.mqtt
        self._port_is_wished = loaded.sources.get("mqtt.port", "default") != "default"
        self._port = self._api_port = 0
        self._tls = LocalTls(layout, loaded.settings.security) if loaded.settings.local.tls else None

    def addresses(self) -> dict[str, object]:
        """What goes into the stack file."""
        return {
            "mqtt.broker": "rabbitmq",
            "mqtt.host": HOST,
            "mqtt.port": self._port,
            "mqtt.api_url": f"{'http' if self._tls is None else 'https'}://{HOST}:{self._api_port}",
            "mqtt.password_file": str(self._layout.secret("mqtt-gateway")),
            "mqtt.log_file": str(self._layout.log(NAME)),
            "mqtt.admin_password_file": str(self._layout.secret("mqtt-admin")),
            **({} if self._tls is None else {"mqtt.tls": "on", "mqtt.ca_file": str(self._tls.ca)}),
        }

    def prepare(self) -> list[Spec]:
        """Write the configuration, the service users and the node's cookie."""
        server, epmd = executable(), port_mapper()
        home = self._layout.data / "rabbitmq"
        if len(os.fsencode(home)) > _ATOM_MOST - 60:
            raise PartError(f"the path {home} is too long for Erlang; give a shorter data directory with --data")
        home.mkdir(exist_ok=True)
        home.chmod(0o700)
        if self._port_is_wished:
            self._port = self._ports.take_exactly("mqtt.port", self._mqtt.port)
        else:
            self._port = self._ports.take("mqtt", DEFAULT_PORT if self._tls is None else DEFAULT_TLS_PORT)
        self._api_port = self._ports.take("rabbitmq-api", DEFAULT_API_PORT)
        distribution, mapper = self._ports.take("rabbitmq-distribution"), self._ports.take("rabbitmq-epmd")
        gateway = self._layout.secret("mqtt-gateway").read_text(encoding="utf-8").strip()
        admin = self._layout.secret("mqtt-admin").read_text(encoding="utf-8").strip()
        write_private(
            home / "definitions.json", json.dumps(rabbit_definitions.definitions(self._mqtt, admin, gateway), indent=1)
        )
        write_private(home / "rabbitmq.conf", self._configuration(home))
        write_private(home / "enabled_plugins", deploy_file("rabbitmq", "enabled_plugins").read_text(encoding="utf-8"))
        cookie = home / ".erlang.cookie"
        if not cookie.is_file():
            write_private(cookie, self._layout.secret("rabbitmq-cookie").read_text(encoding="utf-8").strip())
        trust = None if self._tls is None else self._tls.context()
        mapping = {"ERL_EPMD_PORT": str(mapper), "ERL_EPMD_ADDRESS": HOST}
        return [
            Spec(
                name="epmd",
                argv=(str(epmd), "-port", str(mapper), "-address", HOST),
                probe=functools.partial(probes.listens, HOST, mapper),
                env=mapping,
            ),
            Spec(
                name=NAME,
                argv=(str(server),),
                probe=functools.partial(probes.mqtt, HOST, self._port, self._mqtt.username, gateway, trust),
                env={**mapping, **_environment(home, distribution)},
                cwd=home,
                # Ends by itself and writes what it holds when the supervisor is killed.
                death_signal=signal.SIGTERM,
                grace_s=_GRACE_S,
            ),
        ]

    def _configuration(self, home: Path) -> str:
        lines = [
            deploy_file("rabbitmq", "rabbitmq.conf").read_text(encoding="utf-8"),
            "# This stack",
            f"mqtt.vhost = {self._mqtt.vhost}",
            f"mqtt.prefetch = {self._mqtt.receive_maximum}",
            f"load_definitions = {home / 'definitions.json'}",
            *self._listeners(),
        ]
        return "\n".join(lines) + "\n"

    def _listeners(self) -> list[str]:
        if self._tls is None:
            return [
                f"mqtt.listeners.tcp.1 = {HOST}:{self._port}",
                f"management.tcp.ip = {HOST}",
                f"management.tcp.port = {self._api_port}",
            ]
        own = self._tls.server("rabbitmq")
        shown = {"cacertfile": self._tls.ca, "certfile": own.certificate, "keyfile": own.key}
        return [
            "mqtt.listeners.tcp = none",
            f"mqtt.listeners.ssl.1 = {HOST}:{self._port}",
            *(f"ssl_options.{name} = {path}" for name, path in shown.items()),
            "ssl_options.verify = verify_none",
            "ssl_options.fail_if_no_peer_cert = false",
            f"management.ssl.ip = {HOST}",
            f"management.ssl.port = {self._api_port}",
            *(f"management.ssl.{name} = {path}" for name, path in shown.items()),
        ]


def _environment(home: Path, distribution: int) -> dict[str, str]:
    """All that RabbitMQ's scripts would otherwise take from the system's directories."""
    return {
        "HOME": str(home),
        "RABBITMQ_NODENAME": _NODE,
        "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        # The script becomes the node, so that a signal to the process is one to RabbitMQ.
        "RUNNING_UNDER_SYSTEMD": "true",
    }
