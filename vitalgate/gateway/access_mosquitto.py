"""Mosquitto behind the seam of `access.py`: its dynamic security plugin, spoken to by `dynsec.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from vitalgate.config.settings import MqttSettings
from vitalgate.gateway import clinicians, dynsec
from vitalgate.gateway.access import AccessError, Credential, Device, Person, Reconciled
from vitalgate.gateway.credentials import hash_password
from vitalgate.gateway.dynsec import Command, Dynsec
from vitalgate.gateway.reconcile import plan


class MosquittoAccess:
    """See `Access`. Passwords are known to the plugin's file only, in a form that no command takes."""

    remedy = (
        "the broker wants their passwords, which are not stored: stop it, run `vitalgate registrar restore FILE` on "
        "its dynamic security file, start it again; or `vitalgate device password ID`, `vitalgate clinician password "
        "ID` give each another password"
    )

    def __init__(self, mqtt: MqttSettings, password: str, *, name: str = "cli") -> None:
        self._dynsec = Dynsec(mqtt, password, name=name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dynsec.close()

    def idle(self) -> None:
        """See `Access`."""
        self._dynsec.idle()

    def check_name(self, name: str) -> None:
        """Every name that the registry takes will do."""

    def hash_password(self, password: str) -> str:
        """As the plugin's file has it, so that the file can be written anew from the registry."""
        return hash_password(password)

    def prepare(self) -> None:
        """Make the roles of devices and of clinicians."""
        self._dynsec.ensure_roles()

    def admit(self, devices: Sequence[Credential]) -> list[str]:
        """See `Access`; a user that is there already (a device added anew) gets the new password."""
        run = self._dynsec.run
        errors = run([dynsec.create(one.user, one.password) for one in devices])
        again = [one for one, error in zip(devices, errors, strict=True) if error and "exists" in error]
        refused = [error for error in errors if error and "exists" not in error]
        commands = [dynsec.set_password(one.user, one.password) for one in again]
        commands += [dynsec.enable(one.user) for one in again]
        return refused + [error for error in run(commands) if error]

    def admit_clinician(self, person: Credential, teams: Iterable[str]) -> list[str]:
        """See `Access`."""
        run = self._dynsec.run
        self._dynsec.ensure_roles()
        errors = self._serious(clinicians.rights(person.user, teams))
        made = run([clinicians.create(person.user, person.password)])[0]
        if made is not None and "exists" in made:
            commands = [dynsec.set_password(person.user, person.password), dynsec.enable(person.user)]
            errors += [error for error in run(commands) if error]
        elif made is not None:
            errors.append(made)
        return errors

    def shut_out(self, devices: Sequence[str]) -> None:
        """See `Access`; users are disabled, not deleted."""
        self._known([dynsec.disable(device) for device in devices])

    def readmit(self, devices: Sequence[Device]) -> None:
        """See `Access`; the plugin has kept their passwords."""
        self._known([dynsec.enable(device.device_id) for device in devices])

    def _known(self, commands: Sequence[Command]) -> None:
        for command, error in zip(commands, self._dynsec.run(commands), strict=True):
            if error is not None and "not found" not in error.lower():
                raise AccessError(f"{command['command']} {command['username']}: {error}")

    def change_clinician(self, now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        """See `Access`; rights of a role take effect with the next message."""
        commands = clinicians.change(now, before)
        for command, error in zip(commands, self._dynsec.run(commands), strict=True):
            if error is not None and not clinicians.harmless(command, error):
                raise AccessError(f"{command['command']}: {error}")

    def reconcile_devices(self, registry: Callable[[], Sequence[Device]]) -> Reconciled:
        """See `Access`."""
        known = self._dynsec.clients()
        todo = plan({device.device_id: device.active for device in registry()}, known)
        refused = [
            f"{command['command']}: {error}"
            for command, error in zip(todo.commands, self._dynsec.run(todo.commands), strict=True)
            if error is not None
        ]
        return Reconciled(len(todo.commands), todo.disabled, todo.removed, [], todo.missing, refused)

    def reconcile_clinicians(self, registry: Callable[[], Sequence[Person]]) -> Reconciled:
        """See `Access`."""
        known = self._dynsec.clients()
        todo = clinicians.plan({one.user: (one.active, list(one.teams)) for one in registry()}, known)
        return Reconciled(len(todo.commands), missing=todo.missing, refused=self._serious(todo.commands))

    def _serious(self, commands: Sequence[Command]) -> list[str]:
        return [
            f"{command['command']}: {error}"
            for command, error in zip(commands, self._dynsec.run(commands), strict=True)
            if error is not None and not clinicians.harmless(command, error)
        ]
