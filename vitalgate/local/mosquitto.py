"""Eclipse Mosquitto with its dynamic security plugin and the shared ACL file."""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import secrets
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from vitalgate.config.broker_users import DEVICE_ROLE, password_key, user_entry
from vitalgate.config.loading import Loaded
from vitalgate.config.topics import MQTT_ALERTS, MQTT_DEVICES, MQTT_KINDS
from vitalgate.local import probes
from vitalgate.local.child import Spec
from vitalgate.local.deploy import deploy_file
from vitalgate.local.errors import PartError
from vitalgate.local.layout import Layout, State, write_private
from vitalgate.local.ports import HOST, Ports
from vitalgate.local.tls import LocalTls

DEFAULT_PORT = 1883
DEFAULT_TLS_PORT = 8883
DEFAULT_CERTIFICATE_PORT = 8884
_PLUGIN = "mosquitto_dynamic_security.so"
_PLUGIN_PLACES = (
    "/usr/lib/*/",
    "/usr/lib/",
    "/usr/lib64/",
    "/usr/local/lib/",
    "/opt/homebrew/lib/",
    "/opt/homebrew/opt/mosquitto/lib/",
)
_REMEDY = "install it (Debian, Ubuntu: apt-get install mosquitto; macOS: brew install mosquitto), or set mqtt.host"
_CHATTER = re.compile(rb": (Received|Sending) [A-Z]+ |^[^:]*:\d\d:\d\d: \t|\(QoS \d\)$|: No will message specified\.$")
_ITERATIONS = 20_000
_SALT_BYTES = 12
Acl = dict[str, object]


def executable() -> Path:
    """The broker's executable, also where Debian puts it and PATH of an ordinary user does not look.

    Raises
    ------
    PartError
        When it is not installed.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"])
    found = shutil.which("mosquitto", path=path)
    if not found:
        raise PartError(f"the MQTT broker `mosquitto` is not on this machine; {_REMEDY}")
    return Path(found)


def plugin() -> Path:
    """The dynamic security plugin.

    Raises
    ------
    PartError
        When it is not where packages put it.
    """
    for place in _PLUGIN_PLACES:
        base, _, pattern = place.partition("*")
        for path in sorted(Path(base).glob("*/" + _PLUGIN if pattern else _PLUGIN)):
            return path
    raise PartError(f"Mosquitto's plugin {_PLUGIN} is not on this machine (looked in {', '.join(_PLUGIN_PLACES)})")


def new_user(name: str, password: str, role: str) -> dict[str, object]:
    """A user with this password and role, as the plugin's file wants it."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return user_entry(
        name, [role], key=password_key(password, salt, _ITERATIONS), salt=base64.b64encode(salt).decode(),
        iterations=_ITERATIONS, text=role,
    )  # fmt: skip


def worth_keeping(line: bytes) -> bool:
    """Whether a line of the broker's debug log is more than the chatter of packets.

    Mosquitto tells of a refused publish (`Denied PUBLISH from CLIENT`) at debug level only, among several lines for
    every packet. Those cost it some 15 µs a message.
    """
    return not _CHATTER.search(line)


def _acls(kinds: Sequence[str], topics: Sequence[str]) -> list[Acl]:
    return [{"acltype": kind, "topic": topic, "priority": 0, "allow": True} for topic in topics for kind in kinds]


def dynamic_security(users: dict[str, tuple[str, str]]) -> dict[str, object]:
    """The plugin's document at first start.

    ``users`` maps a user name to (password, role). The default is to deny, so that the ACL file decides for devices.
    """
    devices = [f"{MQTT_DEVICES}/+/{kind}" for kind in MQTT_KINDS]
    answers = [f"{MQTT_DEVICES}/+/receipts", f"{MQTT_DEVICES}/+/down"]
    admin = _acls(["publishClientSend", "publishClientReceive", "subscribePattern"], ["$CONTROL/dynamic-security/#"])
    admin += _acls(["publishClientReceive", "subscribePattern"], ["$SYS/#"])
    gateway = _acls(["publishClientReceive", "subscribePattern"], [*devices, "$SYS/#"])
    gateway += _acls(["subscribePattern"], [f"$share/+/{topic}" for topic in devices])
    gateway += _acls(["publishClientSend"], [*answers, f"{MQTT_ALERTS}/#"])
    # The notifier looks for retained alerts that are no longer open.
    gateway += _acls(["publishClientReceive", "subscribePattern"], [f"{MQTT_ALERTS}/#"])
    return {
        "defaultACLAccess": {
            "publishClientSend": False, "publishClientReceive": False, "subscribe": False, "unsubscribe": True,
        },
        "clients": [
            new_user(name, password, role) for name, (password, role) in users.items()
        ],
        "groups": [],
        "roles": [
            {"rolename": "admin", "acls": admin},
            {"rolename": "gateway", "acls": gateway},
            # Added to every device by the registrar; its rights are the ACL file's.
            {"rolename": DEVICE_ROLE, "acls": []},
        ],
    }  # fmt: skip


class Mosquitto:
    """The broker part of a stack."""

    name = "mqtt"

    def __init__(self, layout: Layout, state: State, ports: Ports, loaded: Loaded) -> None:
        self._layout = layout
        self._ports = ports
        self._mqtt = loaded.settings.mqtt
        self._port_is_wished = loaded.sources.get("mqtt.port", "default") != "default"
        self._port = self._certificate_port = 0
        self._tls = LocalTls(layout, loaded.settings.security) if loaded.settings.local.tls else None

    def addresses(self) -> dict[str, object]:
        """What goes into the stack file."""
        return {
            "mqtt.host": HOST,
            "mqtt.port": self._port,
            "mqtt.password_file": str(self._layout.secret("mqtt-gateway")),
            "mqtt.log_file": str(self._layout.log("mosquitto")),
            "mqtt.admin_password_file": str(self._layout.secret("mqtt-admin")),
            **self._tls_addresses(),
        }

    def _tls_addresses(self) -> dict[str, object]:
        if self._tls is None:
            return {}
        return {
            "mqtt.tls": "on",
            "mqtt.ca_file": str(self._tls.ca),
            "mqtt.certificate_port": self._certificate_port,
        }

    def _tls_lines(self) -> list[str]:
        """The listener for passwords, encrypted, and a second one that takes a device's certificate for its name."""
        if self._tls is None:
            return []
        self._certificate_port = self._ports.take("mqtt-certificates", DEFAULT_CERTIFICATE_PORT)
        own = self._tls.server("mosquitto")
        shown = [f"certfile {own.certificate}", f"keyfile {own.key}"]
        return [
            *shown,
            f"listener {self._certificate_port} {HOST}",
            *shown,
            f"cafile {self._tls.devices_ca}",
            f"crlfile {self._tls.devices_crl}",
            "require_certificate true",
            "use_identity_as_username true",
        ]

    def prepare(self) -> list[Spec]:
        """Write the configuration and, at first start, the users."""
        broker, security_plugin = executable(), plugin()
        home = self._layout.data / "mosquitto"
        home.mkdir(exist_ok=True)
        home.chmod(0o700)
        if self._port_is_wished:
            self._port = self._ports.take_exactly("mqtt.port", self._mqtt.port)
        else:
            self._port = self._ports.take("mqtt", DEFAULT_PORT if self._tls is None else DEFAULT_TLS_PORT)
        gateway = self._layout.secret("mqtt-gateway").read_text(encoding="utf-8").strip()
        admin = self._layout.secret("mqtt-admin").read_text(encoding="utf-8").strip()
        users = home / "dynamic-security.json"
        if not users.is_file():
            document = dynamic_security(
                {self._mqtt.admin_username: (admin, "admin"), self._mqtt.username: (gateway, "gateway")}
            )
            write_private(users, json.dumps(document, indent=1))
        acl = home / "acl"
        write_private(acl, deploy_file("mosquitto", "acl").read_text(encoding="utf-8"))
        lines = [
            deploy_file("mosquitto", "mosquitto.conf").read_text(encoding="utf-8"),
            "# This stack",
            f"listener {self._port} {HOST}",
            *self._tls_lines(),
            f"persistence_location {home}/",
            f"acl_file {acl}",
            f"max_queued_bytes {self._mqtt.max_queued_bytes}",
            f"plugin {security_plugin}",
            f"plugin_opt_config_file {users}",
            "log_dest stderr",
        ]
        if self._mqtt.log_refused:
            lines.append("log_type debug")
        if os.getuid() == 0:  # else it would become a user who cannot reach the data directory
            lines.append("user root")
        configuration = home / "mosquitto.conf"
        write_private(configuration, "\n".join(lines) + "\n")
        trust = None if self._tls is None else self._tls.context()
        return [
            Spec(
                name="mosquitto",
                argv=(str(broker), "-c", str(configuration)),
                probe=functools.partial(probes.mqtt, HOST, self._port, self._mqtt.username, gateway, trust),
                # Else the C library looks for a change of the time zone at every line.
                env={"TZ": "UTC0"},
                keep_line=worth_keeping if self._mqtt.log_refused else None,
                # Ends by itself and writes its queues when the supervisor is killed.
                death_signal=signal.SIGTERM,
            )
        ]
