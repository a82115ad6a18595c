"""Every metric is in docs/metrics.md, and everything the dashboard and the rules ask for exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from vitalgate.telemetry import metrics

ROOT = Path(__file__).parents[2]


def _metrics() -> dict[str, MetricWrapperBase]:
    found = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    return {metric._name + ("_total" if metric._type == "counter" else ""): metric for metric in found}


def test_every_metric_is_documented_with_its_labels_and_meaning() -> None:
    rows = re.findall(r"^\| `(\S+)` \| (\w+) \| ([^|]*) \| ([^|]+) \|$", (ROOT / "docs/metrics.md").read_text(), re.M)
    documented = {name: (kind, labels, meaning) for name, kind, labels, meaning in rows}
    assert documented == {
        name: (metric._type, ", ".join(metric._labelnames) or "–", metric._documentation)
        for name, metric in _metrics().items()
    }


def _asked(text: str) -> set[str]:
    names = set(re.findall(r"vitalgate_[a-z_]+", text))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


@pytest.mark.parametrize(
    "file",
    [
        "deploy/grafana/dashboards/vitalgate.json",
        *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "deploy/prometheus").glob("*/*.yml"))),
    ],
)
def test_only_metrics_that_exist_are_asked_for(file: str) -> None:
    asked = _asked((ROOT / file).read_text())
    assert asked
    assert asked <= set(_metrics())


def test_the_dashboard_has_at_least_ten_panels_each_with_a_query_and_a_description() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/vitalgate.json").read_text())
    assert len(dashboard["panels"]) >= 10
    for panel in dashboard["panels"]:
        assert panel["description"]
        assert all(target["expr"] for target in panel["targets"])
