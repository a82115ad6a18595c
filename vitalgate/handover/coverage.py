"""What a set of destinations leaves out: teams that nobody is told for, people that are not there. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vitalgate.handover.destinations import Destinations


def gaps(book: Destinations, teams: Collection[str], clinicians: Mapping[str, frozenset[str] | None]) -> list[str]:
    """Sentences about what will not be told, though it is not wrong in itself.

    Parameters
    ----------
    teams
        Care teams that patients have.
    clinicians
        Teams of the clinicians of the registry; None for one whose access was revoked.
    """
    found = [
        f"team {team} has no destination: its alerts are on Kafka and MQTT only"
        for team in sorted(teams)
        if not any(
            (not one.teams or team in one.teams)
            and (one.clinician is None or team in (clinicians.get(one.clinician) or ()))
            for one in book.destination.values()
        )
    ]
    for name, one in book.destination.items():
        unknown = sorted(set(one.teams) - set(teams))
        if unknown and teams:
            found.append(f"destination {name}: no patient is in team {', '.join(unknown)}")
        if one.clinician is not None and one.clinician in clinicians:
            theirs = clinicians[one.clinician]
            if theirs is None:
                found.append(f"destination {name}: access of {one.clinician} was revoked; nothing is told there")
            elif one.teams and not theirs & set(one.teams):
                found.append(f"destination {name}: {one.clinician} is in none of {', '.join(one.teams)}")
        elif one.clinician is not None:
            found.append(
                f"destination {name}: the registry has no clinician {one.clinician}; told only when a roster names them"
            )
    return found
