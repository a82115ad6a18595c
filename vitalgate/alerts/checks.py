"""Whether a rule, or a patient's override of it, can ever fire. A rule that cannot is worse than none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from vitalgate.alerts import codes
from vitalgate.alerts.compiling import NEWS2_INPUTS, cadences
from vitalgate.alerts.conditions import AnyCondition, Day, Event, Flagged, Score, Silent, Threshold, Trend
from vitalgate.alerts.profile import FOREVER, KNOWN_FACTS, Profile, read, span
from vitalgate.alerts.rule import ORDER, Rule, with_override
from vitalgate.devices import catalogue

#: Features of the analysis that rules may name, with the least and greatest value.
FEATURES: Mapping[str, tuple[float, float]] = {
    "heart_rate": (15, 300), "quality": (0, 1), "af.burden": (0, 100), "af.burden_5min": (0, 100),
    "af.coverage_5min": (0, 100), "pvc.count": (0, 300), "pac.count": (0, 300), "rr_mean": (200, 4000),
    "hrv.sdnn": (0, 4000), "hrv.rmssd": (0, 4000), "hrv.pnn50": (0, 100), "event.pause": (2, 16),
    "event.asystole": (4, 1e6), "event.bradycardia": (0, 50), "event.tachycardia": (100, 400),
    "event.couplet": (0, 400), "event.v_run": (0, 400), "event.vt": (100, 400), "event.vt_sustained": (100, 400),
    "event.bigeminy": (0, 400), "event.trigeminy": (0, 400), "event.vf": (0, 1000), "event.af": (0, 400),
    # Not of the analysis, but of the hand-over of alerts.
    "handover.undelivered": (0, 1e6),
}  # fmt: skip
#: How often features come, seconds.
FEATURE_CADENCE_S = {"heart_rate": 10.0, "quality": 10.0, "pvc.count": 60.0, "pac.count": 60.0, "af.burden": 3600.0}


def faults(rule: Rule) -> list[str]:
    """Why a rule can never fire, a sentence each; empty when it can."""
    found = [list(_condition(condition)) for condition in rule.when]
    dead = [texts for texts in found if texts]
    if rule.combine == "all":
        return [text for texts in dead for text in texts] + list(_apart(rule))
    # Of several that are each enough, one that cannot fire is as wrong: somebody relies on it.
    return [text for texts in dead for text in texts]


def strangers(rule: Rule, known: Mapping[str, Rule]) -> list[str]:
    """What is wrong with the rules that a rule suppresses."""
    found = []
    for name in rule.suppresses:
        other = known.get(name)
        if other is None:
            found.append(f"{rule.id} suppresses {name}, which is no rule; there are {', '.join(sorted(known))}")
        elif ORDER[other.priority] > ORDER[rule.priority]:
            found.append(f"{rule.id} ({rule.priority}) suppresses {name}, whose priority is higher ({other.priority})")
    return found


def override_faults(own: Mapping[str, Any], rules: Iterable[Rule], now_us: int) -> list[str]:
    """What is wrong with a patient's (or a cohort's) overrides and facts, a sentence each."""
    known = {rule.id: rule for rule in rules}
    profile = read(own)
    found = list(profile.trouble)
    for name, overrides in profile.overrides.items():
        rule = known.get(name)
        if rule is None:
            found.append(f"override of unknown rule {name}; `vitalgate rules list` shows those there are")
            continue
        for override in overrides:
            begin, end = span(override)
            if begin >= end:
                found.append(f"override of {name} ends at {override.to}, not after it begins at {override.from_}")
            elif end <= now_us and end != FOREVER:
                found.append(f"override of {name} was over at {override.to}; it changes nothing any more")
            if not override.author or not override.reason:
                found.append(f"override of {name} needs an author and a reason")
            if not override.enabled:
                continue
            if override.quiet_hours and rule.priority == "high":
                found.append(f"override of {name}: a high-priority alert keeps no quiet hours")
            try:
                changed = with_override(rule, override)
            except ValidationError as error:
                found.append(f"override of {name}: {error.errors()[0]['msg']}")
            else:
                found += [f"override of {name}: {text}" for text in faults(changed)]
    return found


def unmet(rule: Rule, profile: Profile) -> list[str]:
    """Facts that a rule needs and the patient does not have."""
    return [
        f"it needs {condition.share_of} ({KNOWN_FACTS[condition.share_of][2]}), which is not set"
        for condition in rule.when
        if isinstance(condition, Threshold) and condition.share_of and not profile.facts.get(condition.share_of)
    ]


def _condition(condition: AnyCondition) -> Iterator[str]:
    if isinstance(condition, Event):
        yield from _feature(condition.event, condition.at_least, condition.at_most)
    elif isinstance(condition, Threshold):
        yield from _threshold(condition)
    elif isinstance(condition, Trend):
        bounds = _bounds(condition.source, condition.metric)
        if isinstance(bounds, str):
            yield bounds
        elif bounds is not None and condition.limit > bounds[1] - bounds[0]:
            yield f"{condition.metric} cannot change by {condition.limit:g}: it lies in {bounds[0]:g} to {bounds[1]:g}"
    elif isinstance(condition, Silent):
        if condition.silent not in catalogue.load().kinds:
            yield f"there is no kind of device {condition.silent!r}; there are {', '.join(catalogue.load().kinds)}"
        elif condition.silent not in cadences() and not condition.at_least_s:
            yield f"{condition.silent} has no cadence: give at_least_s above 0"
    elif isinstance(condition, Day):
        bounds = _bounds(condition.source, condition.metric)
        if isinstance(bounds, str):
            yield bounds
        elif condition.day == "count" and condition.at_least > 86400:
            yield f"{condition.at_least:g} values of {condition.metric} in a day are more than one a second"
    elif isinstance(condition, Score):
        metrics = catalogue.load().metrics
        missing = [key for _, key, _ in NEWS2_INPUTS if key.startswith("reading/") and key[8:] not in metrics]
        if missing:
            yield f"inputs of the score are not in the catalogue: {', '.join(missing)}"
    else:
        assert isinstance(condition, Flagged)
        if condition.for_s and condition.max_gap_s <= 0:
            yield f"with for_s {condition.for_s:g} a max_gap_s above 0 is needed"


def _threshold(c: Threshold) -> Iterator[str]:
    if c.share_of:
        if c.share_of not in KNOWN_FACTS:
            yield f"there is no fact {c.share_of!r}; there are {', '.join(KNOWN_FACTS)}"
        if not 0 < c.limit <= 5:
            yield f"a share of {c.limit:g} of {c.share_of} is no share; give one between 0 and 5"
        return
    if c.code_at_least:
        if c.metric not in catalogue.load().metrics:
            yield f"there is no metric {c.metric!r}"
        return
    bounds = _bounds(c.source, c.metric)
    if isinstance(bounds, str):
        yield bounds
        return
    if bounds is not None:
        low, high = bounds
        reached = low if c.low else high
        never = (reached >= c.limit if c.strict else reached > c.limit) if c.low else (
            reached <= c.limit if c.strict else reached < c.limit
        )  # fmt: skip
        if never:
            side = "falls" if c.low else "rises"
            yield f"{c.metric} never {side} to {c.limit:g}: values outside {low:g} to {high:g} are refused"
    gaps = _cadence(c)
    if c.for_s and gaps is not None and min(gaps, default=0.0) > c.max_gap_s:
        yield (
            f"{c.metric} comes every {min(gaps):g} s at best and max_gap_s is {c.max_gap_s:g}: no run ever lasts"
            f" {c.for_s:g} s; raise max_gap_s, or take for_s = 0"
        )
    if c.for_s and gaps == []:
        yield (
            f"no kind of device measures {c.metric} at a cadence: single values never last {c.for_s:g} s;"
            " take for_s = 0"
        )


def _cadence(c: Threshold) -> list[float] | None:
    """Intervals at which values come, by kind; None when nothing is known of it."""
    if c.source == "feature":
        every = FEATURE_CADENCE_S.get(c.metric)
        return None if every is None else [every]
    kinds = catalogue.load().kinds.values()
    measured = [kind.metrics[c.metric] for kind in kinds if c.metric in kind.metrics]
    return [metric.cadence_s for metric in measured if metric.cadence_s]


def _feature(name: str, at_least: float | None, at_most: float | None) -> Iterator[str]:
    if name not in FEATURES:
        yield f"the analysis gives no feature {name!r}; it gives {', '.join(FEATURES)}"
        return
    low, high = FEATURES[name]
    if at_least is not None and at_least > high:
        yield f"{name} is never {at_least:g} or more: it lies in {low:g} to {high:g}"
    if at_most is not None and at_most < low:
        yield f"{name} is never {at_most:g} or less: it lies in {low:g} to {high:g}"


def _bounds(source: str, metric: str) -> tuple[float, float] | str | None:
    """Least and greatest value, or why there is none; None for a metric without limits."""
    if source == "feature":
        return FEATURES.get(metric) or f"the analysis gives no feature {metric!r}; it gives {', '.join(FEATURES)}"
    found = catalogue.load().metrics.get(metric)
    if found is None:
        return f"there is no metric {metric!r}; docs/kinds.md lists them"
    if codes.scale(metric) is not None or found.coded:
        return f"{metric} is coded: give code_at_least"
    return (found.low, found.high)


def _apart(rule: Rule) -> Iterator[str]:
    """Two limits of one metric that exclude each other."""
    for n, a in enumerate(rule.when):
        for b in rule.when[n + 1 :]:
            if not (isinstance(a, Threshold) and isinstance(b, Threshold)) or a.metric != b.metric or a.low == b.low:
                continue
            low, high = (a, b) if a.low else (b, a)
            if low.limit <= high.limit and not (low.clear or high.clear or low.clear_for_s or high.clear_for_s):
                yield f"{a.metric} is never below {low.limit:g} and above {high.limit:g} at once"
