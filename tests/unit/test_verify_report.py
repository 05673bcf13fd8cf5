"""The report of verify: counts all, keeps some, reads as a table and as JSON."""

from __future__ import annotations

import json

from rich.console import Console

from worker.operate.verify_report import INVARIANTS, RULES, SHOWN_PER_RULE, Counts, Findings, Report, render


def shown(report: Report) -> str:
    """Return what a person sees."""
    console = Console(width=160, color_system=None)
    with console.capture() as captured:
        console.print(render(report))
    return captured.get()


def test_every_rule_belongs_to_an_invariant() -> None:
    """So that each breach is said under what it breaks."""
    assert {number for number, _ in RULES.values()} == set(INVARIANTS)


def test_all_breaches_are_counted_and_the_first_of_each_rule_kept() -> None:
    """A million of one kind hide no other, and fit into memory."""
    findings = Findings()
    for number in range(SHOWN_PER_RULE * 3):
        findings.add("event.ghost", f"reg_{number}")
    findings.add("outbox.left", "a/1/2", "still there")
    findings.add_all("letter.missing", [("a/1/3", "gone"), ("a/1/4", "gone")], 5000)
    report = Report(Counts(), findings.kept, dict(findings.totals))

    assert report.totals == {"event.ghost": SHOWN_PER_RULE * 3, "outbox.left": 1, "letter.missing": 5000}
    assert len(report.findings) == SHOWN_PER_RULE + 3
    assert f"… {SHOWN_PER_RULE * 2} more" in shown(report)
    assert "… 4,998 more" in shown(report)


def test_nothing_found_is_said_in_one_line() -> None:
    """And every invariant by name."""
    report = Report(Counts(commands=1_234, accepted=1_000, rejected=200, events=1_200), [], {}, ["a note"], 2.5)
    words = shown(report)

    assert report.ok
    assert words.splitlines()[-1].strip() == "Everything holds: 1,234 commands, 1,200 outcomes, 1,200 events checked in 2.5 s."
    assert all(meaning in words for meaning in INVARIANTS.values())
    assert "note: a note" in words
    assert "breaches" not in words


def test_breaches_are_said_by_rule_with_their_ids() -> None:
    """Square brackets are text and no markup."""
    findings = Findings()
    findings.add("event.ghost", "reg_[red]1", "gone")
    findings.add("outbox.left", "a/1/2")
    report = Report(Counts(), findings.kept, dict(findings.totals), [], 1)
    words = shown(report)

    assert not report.ok
    assert "reg_[red]1" in words
    assert RULES["outbox.left"][1] in words
    assert words.splitlines()[-1].startswith("2 breaches of 2 rules")


def test_the_json_form_is_one_line_with_all_of_it() -> None:
    """For scripts."""
    findings = Findings()
    findings.add("event.ghost", "reg_1", "gone")
    text = Report(Counts(commands=3), findings.kept, dict(findings.totals), ["a note"], 1.5).to_json()
    read = json.loads(text)

    assert "\n" not in text
    assert read["ok"] is False
    assert read["counts"]["commands"] == 3
    assert read["findings"] == [{"rule": "event.ghost", "id": "reg_1", "text": "gone"}]
    assert read["totals"] == {"event.ghost": 1}
    assert (read["notes"], read["duration_s"]) == (["a note"], 1.5)
