"""The registry as the simulators need it: many patients and devices at once, assigned since a time in the past."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from vitalgate.cli._context import Failure
from vitalgate.config.settings import Settings
from vitalgate.gateway.access import AccessError
from vitalgate.gateway.link import LinkDown
from vitalgate.simulators.cast import Cast
from vitalgate.storage.errors import StorageError
from vitalgate.storage.registry import Registry
from vitalgate.stream import enrolment

_APPLIED_WITHIN_S = 30.0


class SystemRegistry:
    """A running deployment's registry and broker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def enrol(self, members: Cast, since: float) -> Mapping[str, str]:
        """Register patients and devices; the password of each device.

        Raises
        ------
        Failure
            When something stands against it, or the registrar does not take it up.
        """
        start = datetime.fromtimestamp(since, UTC)
        try:
            with Registry(self._settings.database) as registry:
                for player in members.players:
                    registry.add_patient(player.patient, player.zone, player.team)
                wanted = [
                    enrolment.Wanted(
                        prop.device, prop.kind, prop.player.patient if prop.given.assigned else None, since=start
                    )
                    for prop in members.props
                ]
                done = enrolment.add(self._settings, wanted, apply_s=_APPLIED_WITHIN_S)
                if not done.applied:
                    raise Failure(
                        f"the registry change was not applied within {_APPLIED_WITHIN_S:g} s; does the registrar run?"
                        " `vitalgate status` shows it"
                    )
        except (StorageError, LinkDown, AccessError, enrolment.EnrolmentError) as error:
            raise Failure(str(error)) from error
        return {told.device_id: told.password for told in done.devices}

    def hand_over(self, device: str, patient: str, since: float) -> None:
        """From then on the device is the patient's, or nobody's."""
        with Registry(self._settings.database) as registry:
            registry.assign(device, patient or None, datetime.fromtimestamp(since, UTC))
