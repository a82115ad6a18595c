"""The operators' alerts: each asks for what exists, is tried by promtool, and has a runbook whose commands exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from vitalgate.cli import cli
from vitalgate.telemetry import metrics

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
RUNBOOKS = ROOT / "docs/runbooks"
#: What the expressions use of PromQL.
WORDS = {
    "sum", "min", "max", "by", "rate", "increase", "deriv", "changes", "time", "histogram_quantile", "and", "or",
}  # fmt: skip
#: Labels that scraping adds, and metrics that are not ours.
SCRAPED = {"job", "instance", "process"}
THEIRS = {"up": set[str](), "process_start_time_seconds": set[str]()}
#: What must be told of, whatever the rules are called.
DEMANDED = {
    "GatewayDown", "WorkerLagGrows", "DeadLettersRise", "LedgerUnbalanced", "AuditBroken", "BrokerQueueHalfFull",
    "DiskFillsUp", "CertificateEnds", "RetentionRunsOut", "HandoverFailing",
}  # fmt: skip


def alerts() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                assert rule["alert"] not in found, "two alerts of one name"
                found[rule["alert"]] = rule
    return found


ALERTS = alerts()


def labels() -> dict[str, set[str]]:
    """Labels of every metric by the name that a query uses."""
    known = dict(THEIRS)
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            name = metric._name + ("_total" if metric._type == "counter" else "")
            for end in ("_bucket", "_sum", "_count") if metric._type == "histogram" else ("",):
                known[name + end] = set(metric._labelnames) | ({"le"} if end == "_bucket" else set())
    return {name: own | SCRAPED for name, own in known.items()}


def test_everything_that_has_to_be_told_is() -> None:
    assert set(ALERTS) >= DEMANDED


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_whole_and_asks_for_what_exists(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    expression = rule["expr"]
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)
    known = labels()
    asked = re.findall(r"\b([a-z_]+)\b(\{[^}]*\})?", re.sub(r'"[^"]*"', '""', re.sub(r"\[[^]]*\]", "", expression)))
    grouped = {word.strip() for found in re.findall(r"by \(([^)]*)\)", expression) for word in found.split(",")}
    named = [word for word, _ in asked if word in known]
    assert named
    for word, matchers in asked:
        if word in known:
            assert set(re.findall(r"(\w+)(?==|!)", matchers or "")) <= known[word], word
        else:
            assert word in WORDS | grouped | {found for own in known.values() for found in own}, word
    told = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert grouped | told <= set[str]().union(*(known[word] for word in named))


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_is_tried_silent_and_firing(name: str) -> None:
    """What promtool runs: `promtool test rules deploy/prometheus/tests/*.yml`."""
    tried = [
        one
        for path in (ROOT / "deploy/prometheus/tests").glob("*.yml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for one in test["alert_rule_test"]
        if one["alertname"] == name
    ]
    assert any(one["exp_alerts"] for one in tried) and any(not one["exp_alerts"] for one in tried)


if promtool := shutil.which("promtool"):  # part of Prometheus; without it the tests above are what there is

    @pytest.mark.parametrize(
        "path", sorted((ROOT / "deploy/prometheus/tests").glob("*.yml")), ids=lambda path: path.stem
    )
    def test_promtool_agrees(path: Path) -> None:
        for arguments in (["check", "rules", f"../rules/{path.name}"], ["test", "rules", path.name]):
            done = subprocess.run([promtool, *arguments], cwd=path.parent, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_a_runbook(name: str) -> None:
    page = ROOT / ALERTS[name]["annotations"]["runbook_url"]
    assert page == RUNBOOKS / f"{name}.md"
    text = page.read_text()
    assert text.startswith(f"# {name}\n")
    assert ALERTS[name]["expr"] in text, "the page shows another expression than the rule"
    for heading in ("## What it means", "## What to look at", "## How to mend it"):
        assert heading in text
    assert f"[{name}]({name}.md)" in (RUNBOOKS / "README.md").read_text()


def test_no_runbook_is_left_over() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == set(ALERTS)


def _commands(text: str) -> list[list[str]]:
    return [found.split() for found in re.findall(r"`vitalgate ([^`]+)`", text.replace("\n", " "))]


@pytest.mark.parametrize("page", [*sorted(RUNBOOKS.glob("*.md")), ROOT / "docs/backup.md"], ids=lambda page: page.stem)
def test_every_command_of_a_runbook_exists(page: Path) -> None:
    for words in _commands(page.read_text()):
        command: click.Command | None = cli
        context = click.Context(cli)
        for word in words:
            if not isinstance(command, click.Group):
                break
            command = command.get_command(context, word)
            assert command is not None, f"{page.name}: vitalgate {' '.join(words)}"
        assert command is not None
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, f"{page.name}: {' '.join(words)}"


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_every_link_of_a_runbook_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
