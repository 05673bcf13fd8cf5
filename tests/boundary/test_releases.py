"""
Two releases on one schema: what a deploy and its way back need (docs/operating.md).

Each `tests/golden/release.vN.json` is what a release asked of the database when it was made.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import pytest
from jsonschema import Draft202012Validator

from tests.boundary.databases import Home, copied
from tests.golden.freeze import FOLDER as GOLDEN
from tests.golden.freeze import STATEMENTS
from tests.records import DEVELOPMENT
from worker.dev.embedded import Stack
from worker.dev.logins import INGRESS, WORKER, login
from worker.migrate import FOLDER, migrate, read
from worker.postgres import connect

RELEASES: Final = {path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob("release.v*.json"))}
ASKED: Final = [
    (release, role, name)
    for release, frozen in RELEASES.items()
    for role, statements in frozen["statements"].items()
    for name in statements
]
NEEDED: Final = """
SELECT a.attname FROM pg_attribute AS a
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef
"""


@pytest.fixture(scope="module")
async def migrated(servers: Stack) -> AsyncIterator[Home]:
    """A database with today's migrations, and nothing in it."""
    async with copied(servers, None) as made:
        await migrate(made.url)
        yield made


@pytest.fixture(scope="module")
async def as_then(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where databases are as each release left them, by the migrations that it knew."""
    made = {}
    for release, frozen in RELEASES.items():
        folder = tmp_path_factory.mktemp(release.replace(".", "-"))
        for each in read()[: frozen["migration"]]:
            (folder / each.name).write_bytes((FOLDER / each.name).read_bytes())
        async with copied(servers, None) as home:
            await migrate(home.url, folder)
            made[release] = home.url
    return made


async def shape(url: str, group: str, text: str) -> tuple[list[Any], list[Any]]:
    """
    Return types of a statement's parameters, and names and types of its result, as a login of that group has them.

    Raises:
        asyncpg.PostgresError: the schema or a right does not fit.
    """
    connection = await connect(await login(url, group, f"{group}_of_release"), "tests")
    try:
        prepared = await connection.prepare(text)
        parameters = [each.name for each in prepared.get_parameters()]
        await connection.execute(f"PREPARE asked AS {text}")
        nulls = f" ({', '.join(['NULL'] * len(parameters))})" if parameters else ""
        await connection.execute(f"EXPLAIN EXECUTE asked{nulls}")  # PREPARE asks for no right, this does
        return parameters, [(each.name, each.type.name) for each in prepared.get_attributes()]
    finally:
        await connection.close()


@pytest.mark.parametrize(("release", "group", "name"), ASKED)
async def test_a_released_statement_means_the_same_on_todays_schema(
    migrated: Home, as_then: dict[str, str], release: str, group: str, name: str
) -> None:
    """Workers and ingresses of the release before run on while and after the new one migrates: same parameters, rows and rights."""
    text = RELEASES[release]["statements"][group][name]

    assert await shape(migrated.url, group, text) == await shape(as_then[release], group, text)


@pytest.mark.parametrize(
    ("release", "table"), [(release, table) for release, frozen in RELEASES.items() for table in frozen["copies"]]
)
async def test_a_released_copy_fills_all_that_a_row_needs(migrated: Home, release: str, table: str) -> None:
    """A column that is new may stay empty or has a default; none that was written has gone."""
    copied_columns = RELEASES[release]["copies"][table]
    needed = {row["attname"] for row in await migrated.connection.fetch(NEEDED, table)}
    connection = await connect(await login(migrated.url, WORKER, "worker_of_release"), "tests")
    try:
        done = await connection.copy_records_to_table(table, records=[], columns=copied_columns)
    finally:
        await connection.close()

    assert needed <= set(copied_columns)
    assert done == "COPY 0"


async def test_a_statement_that_lost_its_column_or_its_right_is_seen(servers: Stack) -> None:
    """The two ways in which a migration breaks the release before; a check that sees neither would prove nothing."""
    frozen = RELEASES["release.v1"]["statements"]
    async with copied(servers, None) as home:
        await migrate(home.url)
        await home.connection.execute("ALTER TABLE kafka_offsets RENAME COLUMN skip_offset TO passed_over")
        await home.connection.execute("REVOKE EXECUTE ON FUNCTION outcomes_of FROM registration_ingress")
        with pytest.raises(asyncpg.UndefinedColumnError):
            await shape(home.url, WORKER, frozen[WORKER]["look"])
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await shape(home.url, INGRESS, frozen[INGRESS]["outcomes"])


def test_what_is_frozen_next_is_all_that_worker_and_ingress_ask() -> None:
    """A statement that nobody froze would be free to break."""
    folder = FOLDER.parent / "worker"
    files = [*folder.glob("*.py"), *(folder / "ingress").glob("*.py")]
    asked = {line.split('")')[0] for file in files for line in file.read_text().split('statement("')[1:]}
    of_operators = {name for name in asked if name.startswith("retention_")}

    assert asked - of_operators == {name for names in STATEMENTS.values() for name in names}


def test_a_catalogue_without_new_members_is_readable_to_the_release_before() -> None:
    """It refuses members that it does not know: whoever uses none may apply in the middle of a deploy."""
    schema = json.loads((GOLDEN / "catalogue.v1.schema.json").read_text())
    tenant = DEVELOPMENT.tenant.model_copy(update={"refusals_kept_days": None})
    plain = json.loads(DEVELOPMENT.model_copy(update={"tenant": tenant}).to_json())
    check = Draft202012Validator(schema)

    assert list(check.iter_errors(plain)) == []
    assert list(check.iter_errors(json.loads(DEVELOPMENT.to_json())))
