"""
Alerts and dashboard ask only for metrics that there are, and an alert never wakes somebody without telling what to do.

Whether alerts fire when they should, promtool tests: `make alerts`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from observability.dashboard import ROWS, SCHEMA_VERSION, dashboard
from worker.config import PREFIX, Settings
from worker.logs import EVENTS
from worker.metrics import OF_THE_PROCESS, Listed, Metrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "observability"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
README = (ROOT / "README.md").read_text()
LISTED = {each.name: each for each in (*Metrics().listed, *OF_THE_PROCESS)}
SERIES = {series: each for each in LISTED.values() for series in each.series}
OF_PROMETHEUS = {"up"}
"""Prometheus makes this one itself, for everything that it asks."""
NOT_SHOWN = {"process_start_time_seconds"}
TOPICS = ("**What is wrong.**", "**See it.**", "**Do.**")
CODES = {"password.plaintext", "tenant.unknown", "json.malformed", "schema.invalid", "envelope.invalid", "store.refused"}
SECTIONS = {"Topics"}
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
QUERIES = [query for panels in ROWS.values() for panel in panels for query, _ in panel.queries]


def asked(expression: str) -> dict[str, set[str]]:
    """Return the metrics that an expression is about, with the labels that it selects by; every name in it has to be among them."""
    found: dict[str, set[str]] = {}
    plain = expression.replace("$__rate_interval", "5m")

    def note(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.setdefault(str(node.name), set()).update(matcher.name for matcher in node.matchers.matchers)

    promql_parser.walk(promql_parser.parse(plain), note)
    assert set(re.findall(r"\b(?:registration|process)_\w+", plain)) == {name for name in found if name not in OF_PROMETHEUS}
    return found


def metrics_table() -> str:
    """Return the table of every metric, as the README must have it."""
    lines = ["| metric | kind | by | what it is |", "|---|---|---|---|"]
    lines += [_row(each) for each in LISTED.values()]
    return "\n".join(lines)


def _row(each: Listed) -> str:
    return f"| `{each.name}` | {each.kind} | {', '.join(each.labels)} | {each.text} |"


def test_the_table_of_metrics_is_that_of_the_code() -> None:
    """Every metric is there, with its kind, its labels and what it is."""
    assert metrics_table() in README, f"put this into README.md:\n\n{metrics_table()}"


def test_every_metric_on_the_list_is_exposed_with_its_help_and_no_other() -> None:
    """The list is what Prometheus gets; of the client library's own, those of use are on it."""
    text = Metrics().text().decode()
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))

    assert {name for name in helps if name.startswith("registration_")} == {each.name for each in Metrics().listed}
    assert all(helps[each.name] == each.text for each in Metrics().listed)
    assert {each.name for each in OF_THE_PROCESS} <= set(helps)


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in RULES), *QUERIES])
def test_a_query_asks_for_metrics_and_labels_that_there_are(expression: str) -> None:
    """A name or a label with a typing error would be quiet for ever."""
    for name, labels in asked(expression).items():
        if name not in OF_PROMETHEUS:
            assert name in SERIES
            assert labels <= {*SERIES[name].labels, *(["le"] if name.endswith("_bucket") else [])}


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in RULES), *QUERIES])
def test_a_counter_is_asked_for_its_pace_and_nothing_else_is(expression: str) -> None:
    """The rate of a gauge means nothing, nor does a counter's value."""
    for name in asked(expression):
        is_paced = re.search(rf"(rate|increase)\({name}\b", expression) is not None
        if name in SERIES:
            assert is_paced == (SERIES[name].kind != "gauge")


def test_every_metric_is_shown_or_listed_as_not_shown() -> None:
    """A metric that nobody looks at is a cost without use."""
    shown = {SERIES[name].name for query in QUERIES for name in asked(query)}

    assert set(LISTED) - shown == NOT_SHOWN


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_a_section_that_says_what_is_wrong_how_to_see_it_and_what_to_do(rule: dict[str, Any]) -> None:
    """Its link leads there."""
    name = rule["alert"]
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)

    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"]["summary"].endswith(".")
    assert section is not None
    assert [topic for topic in TOPICS if topic in section[1]] == list(TOPICS)


def test_the_runbook_has_no_section_without_an_alert() -> None:
    """What no alert leads to is read by nobody."""
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_the_runbook_names_only_what_there_is() -> None:
    """Commands, settings, log events and panels."""
    settings = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    events = set(re.findall(r"`([a-z]+\.[a-z_]+)`", RUNBOOK))
    panels = {panel.title for row in ROWS.values() for panel in row}
    named = [name.replace("\n", " ") for name in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", RUNBOOK)]

    assert set(re.findall(rf"{PREFIX}[A-Z_]+", RUNBOOK)) <= settings
    assert {event for event in events if event.split(".")[0] in {each.split(".")[0] for each in EVENTS}} <= set(EVENTS) | CODES
    assert [name for name in named if not any(panel.startswith(name) for panel in panels) and name not in SECTIONS] == []


def test_each_alert_is_tested_to_fire_and_to_be_quiet() -> None:
    """Promtool runs these; here it is seen that none is left out."""
    cases = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    names = {rule["alert"] for rule in RULES}
    checked = [(each["alertname"], bool(each["exp_alerts"])) for case in cases for each in case["alert_rule_test"]]

    assert {name for name, fires in checked if fires} == names
    assert {name for name, fires in checked if not fires} == names


def test_the_dashboard_is_the_generated_one() -> None:
    """`make schemas` writes it."""
    assert json.loads((FOLDER / "dashboard.json").read_text()) == dashboard()


def test_every_panel_says_what_it_shows_in_which_unit_and_stands_in_its_own_place() -> None:
    """Titles are unique, ids too, and no panel lies on another."""
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    cells = [
        (panel["gridPos"]["x"] + right, panel["gridPos"]["y"] + down)
        for panel in dashboard()["panels"]
        for right in range(panel["gridPos"]["w"])
        for down in range(panel["gridPos"]["h"])
    ]

    assert dashboard()["schemaVersion"] == SCHEMA_VERSION
    assert [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"] == ["Ingress", "Worker", "Servers"]
    assert all(panel["description"].endswith(".") and panel["fieldConfig"]["defaults"]["unit"] for panel in panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
    assert len(set(cells)) == len(cells)
    assert all(right < 24 for right, _ in cells)
