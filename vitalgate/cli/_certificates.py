"""What the commands about certificates and about devices share: the authorities, and telling the broker."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vitalgate.cli._context import Failure, data_directory, settings

if TYPE_CHECKING:
    from vitalgate.pki.authority import Authority, Issued


@contextmanager
def failing() -> Iterator[None]:
    """Faults of the authorities as messages."""
    from vitalgate.pki.certificates import PkiError

    try:
        yield
    except PkiError as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from error


def authority_here() -> Authority:
    """The authorities of the settings, or of the data directory."""
    from vitalgate.pki.authority import Authority

    named = settings().settings.security.ca_dir
    return Authority(Path(named) if named else data_directory() / "ca")


def push_revoked(revoked: Sequence[Issued]) -> bool:
    """Have the local stack's broker read the list, and cut the devices' connections; False where none runs here."""
    from vitalgate.config.loading import SettingsError, read_secret
    from vitalgate.gateway import dynsec
    from vitalgate.gateway.link import LinkDown
    from vitalgate.local import control
    from vitalgate.local.errors import StackError

    devices = sorted({entry.name for entry in revoked if entry.kind == "device"})
    mqtt = settings().settings.mqtt
    if not devices or not mqtt.certificate_port:
        return False
    try:
        control.kill_process(data_directory(), "mosquitto", signal.SIGHUP)
        password = read_secret(mqtt.admin_password_file, "broker administrator's password (mqtt.admin_password_file)")
        with dynsec.Dynsec(mqtt, password) as broker:
            state = broker.clients()
            # A device that may come back with a password or another certificate is cut off by being let in again.
            for name in devices:
                if name in state:
                    commands = [dynsec.disable(name)] + ([] if state[name].disabled else [dynsec.enable(name)])
                    broker.run(commands)
    except control.NotRunningError:
        return False
    except (StackError, LinkDown, dynsec.DynsecError, SettingsError) as error:
        raise Failure(
            f"{', '.join(devices)}: revoked and on the list, but the broker was not told: {error}; send it SIGHUP"
        ) from error
    return True


def revoke_certificates(device: str) -> int:
    """Revoke what certificates a device has from the authorities here, if any are; how many there were."""
    authority = authority_here()
    if not authority.ca_file("devices").is_file():
        return 0
    with failing():
        valid = [
            entry for entry in authority.listed()
            if entry.kind == "device" and entry.name == device and entry.revoked_at is None
        ]  # fmt: skip
        revoked = [gone for entry in valid for gone in authority.revoke(entry.serial, datetime.now(UTC))]
    push_revoked(revoked)
    return len(revoked)
