"""The README says what is so: its tables and its examples are held against the code."""

from __future__ import annotations

import ast
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from worker import dev
from worker.app import RETENTION_DAYS
from worker.config import PREFIX, Settings
from worker.core.explain import Rule
from worker.dev.client_script import PLURAL
from worker.retention import KEPT

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OPERATING = (ROOT / "docs" / "operating.md").read_text()
GOLDEN = ROOT / "tests" / "golden"


def settings_table() -> str:
    """Return the table of every setting, as the README must have it."""
    lines = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "**needed**" if field.is_required() else _shown(field.get_default())
        lines.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def _shown(default: object) -> str:
    text = "" if default is None or not str(getattr(default, "get_secret_value", lambda: default)()) else str(default)
    return f"`{text.lower() if isinstance(default, bool) else text}`" if text else ""


def test_the_table_of_settings_is_that_of_the_code() -> None:
    """Every variable is there with its default and what it is for."""
    assert settings_table() in README, f"put this into README.md:\n\n{settings_table()}"


def test_every_rule_of_an_explanation_is_in_the_readme() -> None:
    """Whoever reads an explanation finds the rule that it names."""
    assert {rule.value for rule in Rule} <= set(re.findall(r"^\| (R-\d+) \|", README, re.MULTILINE))


def test_every_file_that_the_readme_names_is_there() -> None:
    """A path in code marks leads somewhere."""
    folders = "worker|schemas|tracing|observability|docs|downstream|deploy|tests|migrations|requirements|benchmarks"
    paths = set(re.findall(rf"`((?:{folders})/[\w./-]+)`", README + OPERATING))

    assert paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_what_is_kept_is_said_as_it_is() -> None:
    """Each topic's days, the workers' own, and that these outlast a segment of any topic that closes a week late."""
    for topic, days in RETENTION_DAYS.items():
        assert f"`{topic}` | {days} days |" in OPERATING
        assert timedelta(days=days + 7) < KEPT
    assert f"`registrations` | {KEPT.days} days from the command's time" in OPERATING


def test_the_curl_example_posts_the_example_body_to_the_path_that_is() -> None:
    """Copy, paste, 201."""
    block = next(block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "curl" in block)
    file = re.search(r"-d @(\S+)", block)

    assert PLURAL in block
    assert file is not None
    assert (ROOT / file[1]) == Path(dev.__file__).with_name("examples") / "register-request.json"


def test_the_consumers_example_acts_once_on_each_fact() -> None:
    """It returns a registered customer the first time, and nothing for a repeat or for another type."""
    handle = example("handle")
    golden = json.loads((GOLDEN / "customer-registered.v1.json").read_text())
    headers = [(name, value.encode()) for name, value in golden["headers"]]
    value = json.dumps(golden["value"]).encode()
    seen: set[str] = set()

    assert handle(headers, value, seen).customer_id == golden["value"]["customerId"]
    assert handle(headers, value, seen) is None
    assert handle([("ce_type", b"something.else.v1")], value, set()) is None


def test_the_consumers_example_reads_what_a_later_release_sends() -> None:
    """A member that it does not know is left out, a new version of the type is passed over."""
    handle = example("handle")
    golden = json.loads((GOLDEN / "customer-registered.v1.json").read_text())
    headers = {name: value.encode() for name, value in golden["headers"]}
    grown = json.dumps({**golden["value"], "newMember": {"of": "a later release"}}).encode()

    assert handle(list(headers.items()), grown, set()).customer_id == golden["value"]["customerId"]
    assert handle([*{**headers, "ce_type": b"customer.registered.v2"}.items()], grown, set()) is None


@pytest.mark.parametrize("word", ["handle", "publish", "traces_of", "handle_in_trace"])
def test_the_python_examples_are_whole(word: str) -> None:
    """Each block imports what it uses and runs as it stands."""
    assert callable(example(word))


def example(name: str) -> Any:  # noqa: ANN401 - whatever the README defines
    """Run the README's block that defines a function of that name, and return it."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    block = next(block for block in blocks if f"def {name}(" in block)
    ast.parse(block)
    scope: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), scope)  # noqa: S102 - our own README
    return scope[name]
