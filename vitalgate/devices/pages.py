"""The pages docs/reasons.md and docs/kinds.md, written from the code and the catalogue; a test holds them to it.

Written anew with ``python -m vitalgate.devices.pages docs``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from vitalgate.devices import catalogue
from vitalgate.devices.catalogue import Catalogue, Channel, Kind, Metric
from vitalgate.devices.reasons import Reason

_HEAD = "<!-- Written by `python -m vitalgate.devices.pages docs`; change the source, not this page. -->\n"


def reasons() -> str:
    """The page of reason codes."""
    lines = [
        "# Why a message or an item was refused\n",
        _HEAD,
        "The `reason` of a dead letter (topic `device.deadletter`, view `dead_letters`, `vitalgate deadletter list`)",
        "and of the `rejected` list of a receipt. The `detail` beside it names the value, the limit and the remedy.",
        "Codes are only ever added. `item` is the position in the message, -1 when the message was refused whole.\n",
        "| code | what it means | what to do | a device can cause it |",
        "|---|---|---|---|",
    ]
    for reason in Reason:
        by = "yes" if reason.by_device else "no"
        lines.append(f"| `{reason}` | {reason.sentence} | {reason.remedy} | {by} |")
    lines += [
        "",
        "`unknown_device` and `revoked` happen when a message was under way while the registry changed, or with a",
        "broker that lets in others than the registry's devices. A message of an unknown device is not confirmed by a",
        "receipt: the device sends it again, and once it is registered it is taken. `sequence_reused` is found where",
        "the message is stored, all others at intake.",
        "",
    ]
    return "\n".join(lines)


def kinds(of: Catalogue | None = None) -> str:
    """The page of device kinds."""
    of = of or catalogue.load()
    lines = [
        "# What each kind of device measures\n",
        _HEAD,
        "Units are UCUM; the first is the canonical one, in which values are stored and limits are given. Outside",
        "*plausible* a value is refused (`out_of_range`); *unusual* ones are kept and flagged. Codes: LOINC, and",
        "ISO/IEEE 11073-10101 (MDC) as partition::term; where neither is known there is a local code and none is",
        "invented. Settings are what `vitalgate device configure` may set; a device passes over those that it does not",
        "have. A new kind is one file in `vitalgate/devices/kinds/`.",
    ]
    for kind in of.kinds.values():
        lines += ["", f"## {kind.name}", "", f"{kind.title}. {kind.description}", *_profiles(kind), ""]
        lines += [
            "| metric | meaning | units | plausible | unusual | resolution | every | sites | codes |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_metric(metric) for metric in kind.metrics.values()]
        if kind.channels:
            lines += ["", "| channel | units | Hz (accepted) | plausible | codes |", "|---|---|---|---|---|"]
            lines += [_channel(channel) for channel in kind.channels.values()]
        lines += [
            f"\nOf one measurement: {' < '.join(order.metrics) if order.strict else ' ≤ '.join(order.metrics)}."
            for order in kind.ordered
        ]
        lines += ["", "| setting | meaning | takes |", "|---|---|---|"] if kind.settings else []
        lines += [f"| `{name}` | {one.title} | {one.takes()} |" for name, one in kind.settings.items()]
    lines += ["", "## Coded values", ""]
    alike: dict[str, list[str]] = {}
    for metric in of.metrics.values():
        if metric.coded:
            codes = dict.fromkeys(metric.codes.values())
            said = "; ".join(f"`{code.code}` {code.title}{' (unusual)' if code.unusual else ''}" for code in codes)
            alike.setdefault(said, []).append(f"`{metric.name}`")
    lines += [f"- {', '.join(names)}: {said}" for said, names in alike.items()]
    lines += ["", "## Contexts", ""]
    contexts: dict[str, frozenset[str]] = {}
    for metric in of.metrics.values():
        contexts.update(metric.contexts)
    lines += [f"- `{name}`: {', '.join(f'`{word}`' for word in sorted(contexts[name]))}" for name in sorted(contexts)]
    return "\n".join(lines) + "\n"


def _profiles(kind: Kind) -> Iterable[str]:
    if kind.mdc_profiles:
        yield (
            "Device profile: "
            + ", ".join(f"{code.ref} {code.code} ({code.number})" for code in kind.mdc_profiles)
            + "."
        )


def _number(value: float) -> str:
    return f"{value:.10g}"


def _unusual(low: float, high: float) -> str:
    said = []
    if low != float("-inf"):
        # Limits that exclude their edge are held as the next number below or above it.
        said.append(f"≤ {_number(low)}" if low == float(_number(low)) else f"< {_number(low)}")
    if high != float("inf"):
        said.append(f"≥ {_number(high)}" if high == float(_number(high)) else f"> {_number(high)}")
    return ", ".join(said)


def _metric(metric: Metric) -> str:
    codes = [f"LOINC {code}" for code in metric.loinc]
    codes += [f"LOINC {code} ({unit})" for unit, code in metric.loinc_by_unit.items()]
    if metric.mdc:
        codes.append(f"{metric.mdc.ref} {metric.mdc.code}")
    if metric.local:
        codes.append(metric.local)
    cells = [
        f"`{metric.name}`",
        metric.title,
        ", ".join(f"`{unit}`" for unit in metric.units) or "coded",
        f"{_number(metric.low)} to {_number(metric.high)}" if not metric.coded else "",
        _unusual(metric.unusual_low, metric.unusual_high),
        _number(metric.resolution) if metric.resolution else "",
        f"{_number(metric.cadence_s)} s" if metric.cadence_s else "",
        ", ".join(sorted(metric.sites)),
        ", ".join(codes),
    ]
    return "| " + " | ".join(cells) + " |"


def _channel(channel: Channel) -> str:
    codes = [f"LOINC {code}" for code in channel.loinc]
    codes += [f"MDC {channel.mdc}"] if channel.mdc else []
    codes += [f"lead {channel.lead_mdc}"] if channel.lead_mdc else []
    codes += [channel.local] if channel.local else []
    cells = [
        f"`{channel.name}`",
        ", ".join(f"`{unit}`" for unit in channel.units),
        f"{float(channel.rate):g} ({float(channel.rate_min):g} to {float(channel.rate_max):g})",
        f"{_number(channel.low)} to {_number(channel.high)} {channel.unit}",
        ", ".join(codes),
    ]
    return "| " + " | ".join(cells) + " |"


def write(folder: Path) -> None:
    """Write both pages."""
    (folder / "reasons.md").write_text(reasons(), encoding="utf-8")
    (folder / "kinds.md").write_text(kinds(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
