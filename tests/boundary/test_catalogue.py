"""Catalogues on a real database: versions, what a change would do to whom, and decisions that are made again."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from tests import commands
from tests.boundary.databases import Home
from tests.boundary.places import Place
from tests.boundary.shown import shown
from tests.conftest import World
from worker.catalogues import READ_LOCK
from worker.config import Settings, load
from worker.core.catalogue import Catalogue
from worker.core.protection import Protection
from worker.dev.stack import CATALOGUE
from worker.operate import catalogue, explain
from worker.operate.catalogue_diff import Diff, diff, render
from worker.operate.catalogue_file import validate
from worker.postgres import Database

DEADLINE_S: Final = 60.0
LISTED_ON: Final = "factors.country_lists.FATF_CALL_FOR_ACTION.countries.KP.listed_on"
TENANT_ID: Final = "7c6f0f52-9d4e-4b1a-8f0e-2a5d9b3c1e47"


def variant(folder: Path, slug: str, *changes: tuple[str, str]) -> Path:
    """Write the development catalogue for another tenant, with changes."""
    own = ((TENANT_ID, f"id-of-{slug}"), ("slug: development", f"slug: {slug}"))
    return changed(folder, *own, *changes, name=slug)


def changed(folder: Path, *changes: tuple[str, str], name: str = "") -> Path:
    """Write the development catalogue with changes."""
    text = CATALOGUE.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    file = folder / f"{name or os.urandom(4).hex()}.yaml"
    file.write_text(text)
    return file


async def test_a_first_version_holds_at_once_and_a_later_one_a_minute_ahead(home: Home, tmp_path: Path) -> None:
    """And the same content as the newest version is no new one."""
    url = home.url
    file = variant(tmp_path, "bank-a")
    applied = [await catalogue.apply(url, file, by="alice", yes=True) for _ in range(2)]
    changed_file = variant(tmp_path, "bank-a", ("minimum_age_years: 18", "minimum_age_years: 21"))
    applied += [await catalogue.apply(url, changed_file, by="bob") for _ in range(2)]
    versions = await catalogue.history(url, "bank-a")
    in_force, later = await catalogue.show(url, "bank-a"), await catalogue.show(url, "id-of-bank-a", 2)

    assert [(a.version, a.changed, a.committed) for a in applied if isinstance(a, catalogue.Applied)] == [
        (1, True, True), (1, False, True), (2, True, True), (2, False, True),
    ]  # fmt: skip
    assert [(v.version, v.holds, v.applied_by) for v in versions] == [(2, False, "bob"), (1, True, "alice")]
    assert versions[0].effective_at >= versions[0].applied_at + timedelta(seconds=59.9)
    assert in_force is not None
    assert later is not None
    assert (in_force.tenant.minimum_age_years, later.tenant.minimum_age_years) == (18, 21)
    assert "in force" in shown(catalogue.render_history(versions))
    assert await catalogue.show(url, "no-such-bank") is None


async def test_a_version_is_never_changed(home: Home, tmp_path: Path) -> None:
    """Whoever may write to the table can't rewrite what decisions were made by; nor can a tenant be reached by another name."""
    await catalogue.apply(home.url, variant(tmp_path, "bank-f"), by="alice")
    for attempt in ("UPDATE catalogues SET applied_by = 'mallory'", "DELETE FROM catalogues", "TRUNCATE catalogues"):
        with pytest.raises(asyncpg.RaiseError, match="never changed"):
            await home.connection.execute(attempt)
    renamed = await catalogue.apply(home.url, variant(tmp_path, "bank-f", ("slug: bank-f", "slug: bank-g")), by="mallory", yes=True)

    assert isinstance(renamed, tuple)
    assert [version.applied_by for version in await catalogue.history(home.url, "bank-f")] == ["alice"]


async def test_apply_waits_until_nobody_reads(home: Home, tmp_path: Path) -> None:
    """Whoever holds the lock shared has read the catalogue as it was."""
    url = home.url
    reading = home.connection.transaction()
    await reading.start()
    await home.connection.fetch("SELECT pg_advisory_xact_lock_shared($1)", READ_LOCK)
    applying = asyncio.create_task(catalogue.apply(url, variant(tmp_path, "bank-b"), by="alice", yes=True))
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with asyncio.timeout(DEADLINE_S):
        while not await home.connection.fetch(waiting):
            await asyncio.sleep(0.01)
    early = applying.done()
    await reading.commit()
    applied = await asyncio.wait_for(applying, DEADLINE_S)
    left = await home.connection.fetch("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'")

    assert not early
    assert isinstance(applied, catalogue.Applied)
    assert left == []


async def test_a_name_by_which_another_tenant_is_reached_is_refused(home: Home, tmp_path: Path) -> None:
    """Its slug, or its id as a slug: requests would reach the wrong bank. Nothing is written."""
    url = home.url
    await catalogue.apply(url, variant(tmp_path, "bank-c"), by="alice", yes=True)
    same_slug = variant(tmp_path, "bank-d", ("slug: bank-d", "slug: bank-c"))
    id_as_slug = variant(tmp_path, "bank-e", ("slug: bank-e", "slug: id-of-bank-c"))
    refused = [await catalogue.apply(url, file, by="mallory", yes=True) for file in (same_slug, id_as_slug)]
    tenants = await home.connection.fetch("SELECT tenant_id FROM tenants WHERE tenant_id IN ('id-of-bank-d', 'id-of-bank-e')")

    assert [isinstance(each, tuple) and each[0].path == "tenant" for each in refused] == [True, True]
    assert tenants == []


# --- what a change would do, and to whom ---------------------------------------------------------------------------------

PEOPLE: Final = 6


@pytest.fixture
async def bank(world: World) -> Home:
    """The development tenant with some customers, by version 1; the last of them asked for enhanced due diligence."""
    home = Home(world.settings.database_url.get_secret_value(), world.connection)
    pool = Database(home.url, connections=2, timeout_s=8, name="tests")
    try:
        place = Place(pool, home)
        await place.claim()
        people = [commands.data(commands.email_of(number)) for number in range(PEOPLE)]
        _asking(people[-1], "eddRequired", "true")
        verdicts = [
            place.accept("", offset, registrationId=each["registrationId"], customer=each["customer"])
            for offset, each in enumerate(people)
        ]
        refused = place.reject(commands.registration_id(), PEOPLE)
        await place.settle(*verdicts, refused)
    finally:
        await pool.close()
    return home


def _asking(command: dict[str, Any], key: str, value: str) -> None:
    relation = command["customer"]["individualCustomer"]["categorization"]["categoryFeatureRelations"][0]
    relation["parametrization"].append({"name": key, "value": value})


STRICTER: Final = ("limits: {day: 5000, month: 25000, transaction: 2500}", "limits: {day: 4000, month: 25000, transaction: 2500}")
LOOSER: Final = ("    monitoring: MONTHLY", "    monitoring: QUARTERLY")
REVIEWED: Final = ('PRIVACY_POLICY: "2026-01"', 'PRIVACY_POLICY: "2027-01"')


async def customers(home: Home) -> list[str]:
    """Return the ids of all customers, in order."""
    return [row["customer_id"] for row in await home.connection.fetch("SELECT customer_id FROM customers ORDER BY 1")]


async def test_a_diff_says_what_changes_and_for_whom(bank: Home, tmp_path: Path) -> None:
    """The rules as sentences; each change of a decision with how many it concerns, and examples by id."""
    seen: list[tuple[int, int]] = []
    found = await diff(bank.url, changed(tmp_path, STRICTER, LOOSER, REVIEWED), lambda done, total: seen.append((done, total)))
    assert isinstance(found, Diff)
    ids = await customers(bank)

    assert [(change.text, change.protection) for change in found.changes] == [
        ("level MEDIUM, monitoring: MONTHLY → QUARTERLY", Protection.LESS),
        ("level MEDIUM, limit a day: 5,000 → 4,000", Protection.MORE),
        ("document PRIVACY_POLICY, version: 2026-01 → 2027-01", Protection.SAME),
    ]
    assert [(each.aspect, each.before, each.after, each.customers, each.examples) for each in found.transitions] == [
        ("monitoring", "MONTHLY", "QUARTERLY", PEOPLE, ids[:3]),
        ("limits.day", "5,000", "4,000", PEOPLE, ids[:3]),
        ("documents", "PRIVACY_POLICY 2026-01", "PRIVACY_POLICY 2027-01", PEOPLE, ids[:3]),
    ]  # fmt: skip
    assert (found.customers, found.changed, found.falling, found.protects_less) == (PEOPLE, PEOPLE, PEOPLE, True)
    assert seen == [(PEOPLE, PEOPLE)]
    assert json.loads(found.to_json())["transitions"][0]["protection"] == "LESS"
    assert "Protection falls: 6 of 6" in shown(render(found))


async def test_a_diff_tells_the_customers_apart(bank: Home, tmp_path: Path) -> None:
    """Only those whom a rule concerns: the one who asked for more has it already."""
    found = await diff(bank.url, changed(tmp_path, ("    due_diligence: STANDARD", "    due_diligence: ENHANCED")))
    assert isinstance(found, Diff)

    assert (found.changed, found.falling, found.protects_less) == (PEOPLE - 1, 0, False)
    assert {each.aspect: each.customers for each in found.transitions} == {
        "dueDiligence": PEOPLE - 1, "verificationLevel": PEOPLE - 1, "verificationChecks": PEOPLE - 1,
        "activationBlockers": PEOPLE - 1,
    }  # fmt: skip
    assert "does not fall" in shown(render(found))


async def test_apply_lets_nobody_be_protected_less_unasked(bank: Home, tmp_path: Path) -> None:
    """Nothing is done; whoever has seen what it does, and to whom, may say so. A stricter file needs nobody."""
    file = changed(tmp_path, LOOSER)
    silent = await catalogue.apply(bank.url, file, by="alice")
    before = await catalogue.history(bank.url, TENANT_ID)
    seen = await diff(bank.url, file)
    assert isinstance(seen, Diff)
    agreed = await catalogue.apply(bank.url, file, by="alice", looked_at=seen)
    stricter = await catalogue.apply(bank.url, CATALOGUE, by="bob")
    late = await catalogue.apply(bank.url, file, by="alice", looked_at=seen)

    applied = [each for each in (silent, agreed, stricter, late) if isinstance(each, catalogue.Applied)]
    assert [(each.version, each.committed) for each in applied] == [(2, False), (2, True), (3, True), (4, False)]
    assert "protect somebody less" in catalogue.render_applied(applied[0])
    assert "another version" in catalogue.render_applied(applied[3])
    assert len(before) == 1
    assert [each.applied_by for each in await catalogue.history(bank.url, TENANT_ID)] == ["bob", "alice", "tests"]


async def test_what_a_customer_has_is_what_can_fall(bank: Home, tmp_path: Path) -> None:
    """A category is taken away, which concerns nobody, and comes back weaker: who had it once would have less now."""
    text = CATALOGUE.read_text()
    start, end = text.index("  MEDIUM_RISK_INDIVIDUAL:"), text.index("  HIGH_RISK_INDIVIDUAL:")
    gone = tmp_path / "gone.yaml"
    gone.write_text(text[:start] + text[end:])
    away = await catalogue.apply(bank.url, gone, by="alice")
    back = await diff(bank.url, changed(tmp_path, LOOSER))

    assert isinstance(away, catalogue.Applied)
    assert away.committed
    assert isinstance(back, Diff)
    assert (back.changed, back.falling) == (PEOPLE, PEOPLE)
    assert [(each.before, each.after) for each in back.transitions] == [("MONTHLY", "QUARTERLY")]


async def test_the_same_content_changes_nothing(bank: Home) -> None:
    """Nobody is decided about again for it."""
    found = await diff(bank.url, CATALOGUE)

    assert found == Diff(TENANT_ID, 1, ())
    assert "The rules say the same." in shown(render(found))


# --- decisions made again ------------------------------------------------------------------------------------------------


def settings(home: Home) -> Settings:
    """Return settings for that database; there is no Kafka in these tests."""
    return load(kafka_bootstrap="127.0.0.1:9", database_url=home.url)


async def test_a_decision_is_explained_by_its_rules_and_without_the_person(bank: Home) -> None:
    """By the customer's id or the registration's: factors, points and rules; no name, no email, no country."""
    (customer_id, *_) = await customers(bank)
    (found,) = await explain.explain(settings(bank), customer_id, check=True)
    (same,) = await explain.explain(settings(bank), found.registration_id, tenant="development")
    words = explain.render(found)

    assert (same.id, same.lines) == (customer_id, found.lines)
    assert found.same is True
    assert "Risk MEDIUM, 55 of 100 points; catalogue version 1." in words
    assert "+40 CATEGORY: the category's own risk (R-1, from categorization)." in words
    assert "byte for byte" in words
    assert not [word for word in ("Marcus", "Jensen", "@", "DK") if word in words]
    assert json.loads(found.to_json())["decision"]["riskScore"] == 55
    assert await explain.explain(settings(bank), customer_id, tenant="another") == ()


async def test_another_version_says_what_it_would_decide(bank: Home, tmp_path: Path) -> None:
    """Of the same customer on the same day; where it would not take them, why."""
    (customer_id, *_) = await customers(bank)
    gone = ("    base_score: 40\n", "    base_score: 40\n    active: false\n")
    for file in (changed(tmp_path, STRICTER), changed(tmp_path, gone)):
        assert isinstance(await catalogue.apply(bank.url, file, by="tests", yes=True), catalogue.Applied)
    own, stricter, inactive = [(await explain.explain(settings(bank), customer_id, at_version=version))[0] for version in (1, 2, 3)]

    assert own.differences == ()
    assert [(each.aspect, each.before, each.after) for each in stricter.differences] == [("limits.day", "5,000", "4,000")]
    assert "limits.day: 5,000 → 4,000 (protects more)" in explain.render(stricter)
    assert [each.after for each in inactive.differences] == ["refused: categorization-invalid (category.inactive)"]
    with pytest.raises(explain.NoSuchVersionError, match="catalogue history"):
        await explain.explain(settings(bank), customer_id, at_version=4)


async def test_a_refusal_is_explained_by_what_is_kept_of_it(bank: Home) -> None:
    """The codes of its faults: the body itself is nowhere."""
    row = await bank.connection.fetchrow("SELECT registration_id FROM registrations WHERE status = 'REJECTED'")
    assert row is not None
    (found,) = await explain.explain(settings(bank), row["registration_id"], check=True, at_version=1)

    assert found.decision is None
    assert found.lines[0] == "Refused: validation-failed."
    assert "email.invalid" in explain.render(found)
    assert "@" not in explain.render(found)


async def run(home: Home, *arguments: str) -> tuple[int | None, str, str]:
    """Run `registration …` as a script does, with nobody to ask; return exit code, stdout and stderr."""
    environment: Mapping[str, str] = {
        **os.environ, "REGISTRATION_KAFKA_BOOTSTRAP": "127.0.0.1:9", "REGISTRATION_DATABASE_URL": home.url,
    }  # fmt: skip
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", *arguments), env=environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(child.communicate(), DEADLINE_S)
    return child.returncode, out.decode(), err.decode()


async def test_a_script_reads_the_exit_codes(bank: Home, tmp_path: Path) -> None:
    """1 where protection falls, nothing was published, or what is stored is not what the rules say; 2 for a wrong file."""
    looser, stricter = str(changed(tmp_path, LOOSER)), str(changed(tmp_path, STRICTER))
    (first, second, *_) = await customers(bank)
    ran = [
        await run(bank, *arguments)
        for arguments in (
            ("catalogue", "diff", stricter), ("catalogue", "diff", looser, "--json"), ("catalogue", "diff", str(tmp_path / "none")),
            ("catalogue", "apply", looser), ("catalogue", "apply", looser, "--yes", "--by", "carol"),
        )
    ]  # fmt: skip
    await bank.connection.execute(
        "UPDATE decisions SET decision = replace(decision::text, 'MONTHLY', 'YEARLY')::json WHERE customer_id = $1", second
    )
    ran += [
        await run(bank, "explain", *arguments)
        for arguments in ((first, "--check"), (second, "--check", "--json"), ("cust_nobody",), (first, "--at-version", "9"))
    ]

    assert [code for code, _, _ in ran] == [0, 1, 2, 1, 0, 0, 1, 1, 1]
    assert json.loads(ran[1][1])["falling"] == PEOPLE
    assert "Nothing was published" in ran[3][1]
    assert json.loads(ran[6][1])["same"] is False
    assert "has no version 9" in ran[8][2]


# --- files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "line_of", "path", "expected"),
    [
        (("  slug: bank\n", "  slug: bank\n  slug: x\n"), "  slug: x", "tenant.slug", "stands there twice"),
        (("  currency: EUR\n", ""), "tenant:", "tenant.currency", "Field required"),
        (("    score_min: 25\n", '    score_min: "25"\n'), '    score_min: "25"', "levels.MEDIUM.score_min", "valid integer"),
        (("  time_zone: UTC\n", "  timezone: UTC\n"), "  timezone: UTC", "tenant.timezone", "not permitted"),
        (
            ("    review_after_months: 12\n", "    review_after_months: 24\n"),
            "    review_after_months: 24", "levels.HIGH.review_after_months", "at most 12",
        ),
        (("listed_on: 2011-02-25", "listed_on: 2011-02-30"), "        KP:", LISTED_ON, "day is out of range"),
        (("tenant:\n", "tenant: [\n"), "  slug: ", "", "must be YAML"),
    ],
)  # fmt: skip
def test_a_fault_of_a_file_has_its_line_and_path(
    tmp_path: Path, change: tuple[str, str], line_of: str, path: str, expected: str
) -> None:
    """As compilers say it: file, line, path, what was expected."""
    file = variant(tmp_path, "bank", change)
    found = validate(file)
    lines = [number for number, line in enumerate(file.read_text().splitlines(), 1) if line.startswith(line_of)]

    assert isinstance(found, tuple)
    assert [(fault.file, fault.path) for fault in found] == [(str(file), path)]
    assert found[0].line in lines
    assert expected in found[0].expected
    assert str(found[0]).startswith(f"{file}:{found[0].line}: ")


@pytest.mark.parametrize("content", [b"", b"- a list", b"\xff\xfe\xff", b"a: &a [*a]", b"--- 1\n--- 2\n", b"? [a]\n: b"])
def test_a_file_that_holds_something_else_is_a_fault_and_no_crash(tmp_path: Path, content: bytes) -> None:
    """Empty, a list, no text, an alias of itself, two documents, a key that is a list."""
    (tmp_path / "odd.yaml").write_bytes(content)
    found = validate(tmp_path / "odd.yaml")
    missing = validate(tmp_path / "missing.yaml")

    assert isinstance(found, tuple)
    assert found
    assert isinstance(missing, tuple)
    assert "can't be read" in str(missing[0])


def test_the_development_catalogue_is_valid() -> None:
    """It is what every example stands on."""
    assert isinstance(validate(CATALOGUE), Catalogue)
