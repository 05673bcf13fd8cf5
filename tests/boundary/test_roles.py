"""What each role of the database may do: the worker writes, the ingress reads the tenant it names, the session service one view."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
from pydantic import SecretStr

from tests import commands
from tests.boundary.databases import Home, copied
from tests.boundary.ingress_door import opened
from tests.boundary.places import Place
from tests.boundary.tracks import Track, working
from tests.commands import registration_id
from tests.conftest import World, settings_of, url_of
from tests.records import DEVELOPMENT, record, snapshot
from tests.servers import Servers
from worker import app
from worker.config import Settings
from worker.core.catalogue import Catalogue
from worker.dev.logins import INGRESS, SESSION, WORKER, login
from worker.dev.stack import CATALOGUE
from worker.errors import DeniedError, TooSlowError, UnavailableError, UnstorableError
from worker.ingress.waiting import Outcome, look_up
from worker.kafka import Producer
from worker.metrics import Metrics
from worker.migrate import FOLDER, migrate
from worker.operate import catalogue, catalogue_diff, explain, partitions, status
from worker.operate.session import session
from worker.operate.verify import verify
from worker.postgres import Connection, Database, connect
from worker.registration import Accepted, examine

NUL: Final = "1:\x00"
TENANTS: Final = (DEVELOPMENT.tenant.id, "o'hara\\x27;--", "Ünïon")
"""Ids are opaque: quotes, backslashes and other scripts are in some."""
CUSTOMERS: Final = 3
SHOWN: Final = ("customers_of_tenant", "persons_of_tenant", "users_of_tenant", "decisions_of_tenant")
RIGHTS: Final[Mapping[str, Mapping[str, set[str]]]] = {
    WORKER: {
        "tenants": {"SELECT"},
        "catalogues": {"SELECT"},
        "kafka_offsets": {"SELECT", "INSERT", "UPDATE"},
        "registrations": {"SELECT", "INSERT", "UPDATE", "DELETE"},
        "dead_letters": {"SELECT", "INSERT", "UPDATE", "DELETE"},
        "outbox": {"SELECT", "INSERT", "DELETE"},
        "customers": {"INSERT"},
        "persons": {"INSERT"},
        "users": {"INSERT"},
        "decisions": {"INSERT"},
    },
    INGRESS: {name: {"SELECT"} for name in ("tenants", "catalogues", "ingress_keys", *SHOWN)},
    SESSION: {"session_users": {"SELECT"}},
}
COLUMNS: Final = {(WORKER, "customers", "email_normalized", "SELECT"), (WORKER, "customers", "tenant_id", "SELECT")}
"""Rights on columns alone."""


def of_tenant(tenant_id: str) -> Catalogue:
    """Return the development catalogue as another tenant's."""
    tenant = DEVELOPMENT.tenant.model_copy(update={"id": tenant_id, "slug": f"t{tenant_id.encode().hex()}"})
    return DEVELOPMENT.model_copy(update={"tenant": tenant})


RULES: Final = snapshot(*map(of_tenant, TENANTS))


@dataclass(frozen=True, slots=True)
class Books:
    """A database with customers of several tenants, written by a worker; `registrations` are those of each tenant."""

    home: Home
    ingress_url: str
    worker_url: str
    registrations: Mapping[str, list[str]]


@pytest.fixture(scope="module")
async def books(servers: Servers, template: str) -> AsyncIterator[Books]:
    """The same emails in each tenant, so that nothing but the tenant tells the rows apart."""
    async with copied(servers, template) as home:
        worker_url = await login(home.url, WORKER, "books_worker")
        database = Database(worker_url, connections=2, timeout_s=8, name="registration-worker")
        place = Place(database, home)
        await place.claim()
        accepted = [
            verdict_of(place, tenant_id, f"same{number}@example.com", offset)
            for offset, (number, tenant_id) in enumerate((n, t) for n in range(CUSTOMERS) for t in TENANTS)
        ]
        await place.settle(*accepted)
        await database.close()
        registrations: dict[str, list[str]] = {tenant_id: [] for tenant_id in TENANTS}
        for verdict in accepted:
            registrations[verdict.tie.tenant_id].append(verdict.tie.registration_id)
        yield Books(home, await login(home.url, INGRESS, "books_ingress"), worker_url, registrations)


def verdict_of(place: Place, tenant_id: str, email: str, offset: int) -> Accepted:
    """Return the verdict on a good command of a tenant."""
    data = commands.data(email, tenantId=tenant_id)
    verdict = examine(record(data, offset=offset, topic=place.partition.topic), RULES, fresh=True)
    assert isinstance(verdict, Accepted)
    return verdict


@pytest.fixture
async def reader(books: Books) -> AsyncIterator[Connection]:
    """A connection of an ingress."""
    opened_ = await connect(books.ingress_url, "tests")
    yield opened_
    await opened_.close()


# --- what each role may do ------------------------------------------------------------------------------------------------


async def test_the_roles_are_groups_without_any_power_of_their_own(books: Books) -> None:
    """Nobody logs in as one; none owns a thing, and none is free of row-level security."""
    groups = list(RIGHTS)
    rows = await books.home.connection.fetch("SELECT * FROM pg_roles WHERE rolname = ANY($1)", groups)
    owned = await books.home.connection.fetchval(
        "SELECT count(*) FROM pg_shdepend WHERE deptype = 'o' AND refobjid = ANY(SELECT oid FROM pg_roles WHERE rolname = ANY($1))",
        groups,
    )

    assert len(rows) == len(groups)
    assert owned == 0
    for row in rows:
        powers = ("rolsuper", "rolcanlogin", "rolcreaterole", "rolcreatedb", "rolbypassrls", "rolreplication")
        assert not any(row[power] for power in powers), row["rolname"]


async def test_each_role_has_these_rights_and_no_other(books: Books) -> None:
    """On every table, view and column that there is; a table to come is nobody's until a migration says so."""
    query = (
        "SELECT r.role, c.relname, p.privilege FROM unnest($1::text[]) AS r (role)"
        " CROSS JOIN pg_class AS c CROSS JOIN"
        " unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER', 'REFERENCES'])"
        " AS p (privilege) WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')"
        " AND has_table_privilege(r.role, c.oid, p.privilege)"
    )
    columns = (
        "SELECT r.role, c.relname, a.attname, p.privilege FROM unnest($1::text[]) AS r (role) CROSS JOIN pg_class AS c"
        " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS p (privilege)"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')"
        " AND has_column_privilege(r.role, c.oid, a.attnum, p.privilege) AND NOT has_table_privilege(r.role, c.oid, p.privilege)"
    )
    functions = (
        "SELECT r.role, f.proname FROM unnest($1::text[]) AS r (role) CROSS JOIN pg_proc AS f"
        " WHERE f.pronamespace = 'public'::regnamespace AND f.prosecdef AND has_function_privilege(r.role, f.oid, 'EXECUTE')"
    )
    found: dict[str, dict[str, set[str]]] = {role: {} for role in RIGHTS}
    for row in await books.home.connection.fetch(query, list(RIGHTS)):
        found[row["role"]].setdefault(row["relname"], set()).add(row["privilege"])

    assert found == RIGHTS
    assert {tuple(row) for row in await books.home.connection.fetch(columns, list(RIGHTS))} == COLUMNS
    assert [tuple(row) for row in await books.home.connection.fetch(functions, list(RIGHTS))] == [(INGRESS, "outcomes_of")]


@pytest.mark.parametrize("table", SHOWN)
async def test_row_level_security_is_forced_on_all_that_the_ingress_reads_of_tenants(books: Books, table: str) -> None:
    """Upon the owner too."""
    row = await books.home.connection.fetchrow(
        "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = $1::text::regclass", table
    )

    assert row is not None
    assert tuple(row) == (True, True)


# --- the ingress ----------------------------------------------------------------------------------------------------------


async def name_tenant(connection: Connection, tenant_id: str) -> None:
    """Set the tenant for the transaction."""
    await connection.execute("SELECT set_config('registration.tenant', $1, true)", tenant_id)


@pytest.mark.parametrize("table", SHOWN)
async def test_a_query_without_where_gives_the_named_tenant_s_rows_alone(reader: Connection, table: str) -> None:
    """None before a tenant is named, none after the transaction, and none of a tenant that is not there."""
    query = f"SELECT tenant_id, count(*) AS rows FROM {table} GROUP BY tenant_id"

    assert await reader.fetch(query) == []
    for tenant_id in TENANTS:
        async with reader.transaction():
            await name_tenant(reader, tenant_id)
            assert [tuple(row) for row in await reader.fetch(query)] == [(tenant_id, CUSTOMERS)]
        assert await reader.fetch(query) == []
    for nobody in ("", "%", "*", TENANTS[0].upper(), f"{TENANTS[0]} ", DEVELOPMENT.tenant.slug):
        async with reader.transaction():
            await name_tenant(reader, nobody)
            assert await reader.fetch(query) == []


async def test_a_function_of_the_caller_s_own_is_shown_no_foreign_row(reader: Connection) -> None:
    """However cheap it says that it is: the policy comes before it."""
    told: asyncio.Queue[str] = asyncio.Queue()
    reader.add_log_listener(lambda _connection, message: told.put_nowait(message.message))
    async with reader.transaction():
        await name_tenant(reader, TENANTS[1])
        await reader.execute(
            "CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS"
            " $$BEGIN RAISE NOTICE 'seen %', $1; RETURN true; END$$"
        )
        await reader.fetch("SELECT FROM customers_of_tenant WHERE pg_temp.leak(tenant_id)")

    async with asyncio.timeout(5):
        assert [await told.get() for _ in range(CUSTOMERS)] == [f"seen {TENANTS[1]}"] * CUSTOMERS
    assert told.empty()


REAL: Final = ("registrations", "customers", "persons", "users", "decisions", "outbox", "dead_letters", "kafka_offsets")
DENIED: Final = (
    *(f"SELECT FROM {table}" for table in (*REAL, "session_users", "decision_inputs", "schema_migrations")),
    *(f"DELETE FROM {table}" for table in (*REAL, *SHOWN, "tenants", "catalogues", "ingress_keys")),
    *(f"UPDATE {table} SET tenant_id = 'x'" for table in (*SHOWN, "customers", "tenants", "catalogues")),
    *(f"INSERT INTO {table} DEFAULT VALUES" for table in (*REAL, *SHOWN, "tenants", "catalogues", "ingress_keys")),
    *(f"TRUNCATE {table}" for table in (*REAL, *SHOWN, "tenants")),
    "SELECT password_hash FROM users",
    "SELECT * FROM ONLY customers",
    "ALTER TABLE customers_of_tenant NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE customers_of_tenant DISABLE ROW LEVEL SECURITY",
    "DROP POLICY customers_of_the_named_tenant ON customers_of_tenant",
    "CREATE TABLE mine (id int)",
    "SET ROLE registration_worker",
)


@pytest.mark.parametrize("statement", DENIED)
async def test_an_ingress_can_do_nothing_else(reader: Connection, statement: str) -> None:
    """It reads, and only what it was given."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.execute(statement)


async def test_an_ingress_can_t_see_a_password_hash(reader: Connection) -> None:
    """There is no such column where it reads."""
    with pytest.raises(asyncpg.UndefinedColumnError):
        await reader.fetch("SELECT password_hash FROM users_of_tenant")


async def test_the_look_up_gives_exact_pairs_alone(books: Books, reader: Connection) -> None:
    """A registration under another tenant's name is nothing, nor is a pattern, a half of a pair or an empty text."""
    pairs = [(tenant_id, each) for tenant_id in TENANTS for each in books.registrations[tenant_id]]
    crossed = [(other, each) for tenant_id, each in pairs for other in TENANTS if other != tenant_id]
    query = "SELECT tenant_id, registration_id FROM outcomes_of($1, $2)"

    async def found(some: list[tuple[str, str]]) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await reader.fetch(query, [pair[0] for pair in some], [pair[1] for pair in some])]

    assert sorted(await found(pairs)) == sorted(pairs)
    assert await found(crossed) == []
    assert await found([(t, r) for t in (*TENANTS, "%", "", "_") for r in ("%", "", "_", "reg_%")]) == []
    assert await reader.fetch(query, [TENANTS[0]], [None]) == []
    assert await reader.fetch(query, [TENANTS[0]], []) == []
    assert await reader.fetch(query, [None], [books.registrations[TENANTS[0]][0]]) == []
    assert await reader.fetch(query, None, None) == []


async def test_the_look_up_reads_its_own_tables_whatever_the_caller_puts_before_them(books: Books, reader: Connection) -> None:
    """A temporary table of the same name, on a path of the caller's, changes nothing."""
    registration = books.registrations[TENANTS[0]][0]
    await reader.execute("CREATE TEMPORARY TABLE registrations (registration_id text, tenant_id text)")
    await reader.execute("SET search_path = pg_temp, public")
    query = "SELECT customer_id FROM public.outcomes_of($1, $2)"

    assert len(await reader.fetch(query, [TENANTS[0]], [registration])) == 1


async def test_pooled_sessions_carry_no_tenant_over(books: Books) -> None:
    """Few connections, many tenants at once, and work that fails in mid-transaction, is too slow, or is given up."""
    database = Database(books.ingress_url, connections=2, timeout_s=5, name="registration-ingress")
    chance = random.Random(7)
    query = "SELECT tenant_id FROM customers_of_tenant"

    async def one(number: int) -> None:
        tenant_id = TENANTS[number % len(TENANTS)]
        how = chance.choice(["reads", "reads", "reads", "raises", "divides", "writes", "is given up"])

        async def work(connection: Connection) -> list[str]:
            rows = await connection.fetch(query)
            if how == "raises":
                raise LookupError
            if how == "divides":
                await connection.fetch("SELECT 1 / 0")
            if how == "writes":
                await connection.execute("CREATE TEMPORARY TABLE t (id int)")
            if how == "is given up":
                await connection.fetch("SELECT pg_sleep(60)")
            return [row["tenant_id"] for row in rows]

        reading = asyncio.create_task(database.read_as(tenant_id, work))
        if how == "is given up":
            await asyncio.wait({reading}, timeout=0.01)
            reading.cancel()
        try:
            assert await reading == [tenant_id] * CUSTOMERS
            assert how == "reads"
        except (LookupError, UnstorableError, UnavailableError, asyncio.CancelledError):
            assert how != "reads"
        assert await database.run(lambda connection: connection.fetch(query)) == []

    try:
        await asyncio.gather(*(one(number) for number in range(120)))
    finally:
        await database.close()


async def test_a_read_past_its_deadline_leaves_no_tenant_behind(books: Books) -> None:
    """Its session is closed; the pool's next one has none."""
    database = Database(books.ingress_url, connections=1, timeout_s=0.2, name="registration-ingress")
    try:
        with pytest.raises(TooSlowError):
            await database.read_as(TENANTS[0], lambda connection: connection.fetch("SELECT pg_sleep(9)"))
        assert await database.run(lambda connection: connection.fetch("SELECT FROM customers_of_tenant")) == []
    finally:
        await database.close()


async def test_the_look_up_names_no_tenant_and_finds_those_of_all(books: Books) -> None:
    """Whoever waits is served by one statement, whatever the tenant."""
    database = Database(books.ingress_url, connections=1, timeout_s=5, name="registration-ingress")
    try:
        found: list[Outcome] = await look_up(database, [(t, each) for t in TENANTS for each in books.registrations[t]])
    finally:
        await database.close()

    assert {outcome.tenant_id for outcome in found} == set(TENANTS)
    assert len(found) == CUSTOMERS * len(TENANTS)


# --- the session service --------------------------------------------------------------------------------------------------


async def test_the_session_service_sees_one_view(books: Books) -> None:
    """Name, hash and status of a user by the name's normal form; not a table, and not a function."""
    url = await login(books.home.url, SESSION, "books_session")
    connection = await connect(url, "tests")
    query = "SELECT * FROM session_users WHERE tenant_id = $1 AND username_normalized = $2"
    try:
        row = await connection.fetchrow(query, TENANTS[1], "same1@example.com")
        assert row is not None
        assert set(row.keys()) == {"tenant_id", "username_normalized", "username", "password_hash", "status", "user_id"}
        assert row["password_hash"] == commands.PASSWORD_HASH
        for table in (*REAL, *SHOWN, "tenants", "catalogues", "ingress_keys", "decision_inputs"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT FROM {table}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT outcomes_of('{}', '{}')")
    finally:
        await connection.close()


# --- the worker and the owner ---------------------------------------------------------------------------------------------


@pytest.fixture
async def owned(servers: Servers, producer: Producer) -> AsyncIterator[Track]:
    """A topic, and a database whose owner is no superuser and free of no policy, as in a managed cloud."""
    async with copied(servers, None) as home:
        name = f"owner_{os.urandom(4).hex()}"
        await home.connection.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '{name}'")
        await home.connection.execute(f'ALTER DATABASE "{home.url.rpartition("/")[2]}" OWNER TO {name}')
        url = home.url.replace(home.url[len("postgresql://") : home.url.index("@")], f"{name}:{name}")
        await migrate(url)
        assert isinstance(await catalogue.apply(url, CATALOGUE, by="tests", yes=True), catalogue.Applied)
        own = await connect(url, "tests")
        made = Track(World(settings_of(servers, url), own, f"commands.{os.urandom(6).hex()}"), producer, io.StringIO())
        await made.begin()
        yield made
        await own.close()


async def test_a_worker_does_all_its_work_in_its_own_role(owned: Track, servers: Servers) -> None:
    """Look-ups, COPY, the outbox, FAILED replaced, dead letters, orders; the owner's commands work beside it."""
    settings = owned.world.settings
    database = settings.database_url.get_secret_value().rpartition("/")[2]
    worker_url = SecretStr(await login(url_of(servers, database), WORKER, f"worker_{os.urandom(4).hex()}"))
    good, refused, failed, twice = (registration_id() for _ in range(4))
    email = commands.email_of("role")
    taken = [commands.message(commands.data(email, registrationId=each), owned.world.topic) for each in (good, twice)]
    await owned.make()
    await owned.send(*taken, taken[0], owned.command(refused, customer={}), owned.bad(), owned.command(failed, fingerprint=NUL))
    async with working(owned, database_url=worker_url, breaker_run=3, breaker_pause_s=60) as worker:
        await owned.at(6)
        assert (await owned.outcomes())[failed] == "FAILED"
        await owned.send(owned.command(failed), owned.bad(), owned.bad(), owned.bad())
        await worker.waits_for("breaker_open")
        await owned.set("resume_at_offset = next_offset")
        await owned.send(owned.command())
        await owned.at(11)
        await worker.waits_for(None)

    outcomes = await owned.outcomes()
    assert [outcomes[each] for each in (good, twice, refused, failed)] == [
        "REGISTRATION_COMPLETE",
        "REJECTED",
        "REJECTED",
        "REGISTRATION_COMPLETE",
    ]
    assert len(await owned.letters()) == 5
    assert await owned.customers() == 3
    await the_owner_s_commands_work(settings, good)


async def the_owner_s_commands_work(settings: Settings, registration: str) -> None:
    """Those that read every tenant's rows see them, though row-level security is forced."""
    url = settings.database_url.get_secret_value()
    (explained,) = await explain.explain(settings, registration, check=True)
    diff = await catalogue_diff.diff(url, CATALOGUE)
    report = await verify(settings, settle_s=0)

    assert explained.same
    assert isinstance(diff, catalogue_diff.Diff)
    assert [each.status for each in await status.status(settings, registration)] == ["REGISTRATION_COMPLETE"]
    assert report.counts.accepted == 3
    assert await partitions.partitions(settings)
    assert await migrate(url) == []


async def test_a_worker_reads_of_a_customer_only_whether_an_email_is_taken(books: Books) -> None:
    """It writes names, addresses and hashes, and can't read one."""
    connection = await connect(books.worker_url, "tests")
    try:
        assert await connection.fetchval("SELECT count(email_normalized) FROM customers") == CUSTOMERS * len(TENANTS)
        for query in ("SELECT email FROM customers", *(f"SELECT FROM {table}" for table in ("persons", "users", "decisions"))):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(query)
    finally:
        await connection.close()


# --- a right that is missing ----------------------------------------------------------------------------------------------


async def stranger(url: str) -> tuple[str, str]:
    """Return name and URL of a login that is in no group."""
    name = f"stranger_{os.urandom(4).hex()}"
    connection = await connect(url, "tests")
    try:
        await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
    finally:
        await connection.close()
    return name, url.replace(url[len("postgresql://") : url.index("@")], f"{name}:{name}")


@pytest.mark.parametrize("group", [WORKER, INGRESS])
async def test_a_process_without_its_rights_says_which_to_grant(books: Books, group: str) -> None:
    """In one line: the role, what it was refused, and the statement that mends it."""
    name, url = await stranger(books.home.url)
    database = Database(url, connections=1, timeout_s=5, name=group.replace("_", "-"))
    try:
        with pytest.raises(DeniedError) as caught:
            await database.run(lambda connection: connection.fetch("SELECT FROM catalogues"))
    finally:
        await database.close()

    assert str(caught.value) == (
        f'database: role "{name}": permission denied for table catalogues; GRANT {group} TO it (README, "Database roles")'
    )


async def test_an_operator_without_the_owner_s_rights_is_told_so(books: Books) -> None:
    """The command says which role has them."""
    name, url = await stranger(books.home.url)
    async with session(url, "registration-catalogue") as opened_:
        with pytest.raises(DeniedError, match=f'role "{name}".*log in as the role that migrates'):
            await opened_.rows("verify_tenants")


async def test_an_ingress_without_its_rights_says_so_and_serves_once_it_has_them(
    world: World, tmp_path: Path, logged: io.StringIO
) -> None:
    """It is not ready meanwhile; nobody has to start it again."""
    name, url = await stranger(world.settings.database_url.get_secret_value())
    async with opened(world.settings, tmp_path, database_url=SecretStr(url)) as door:
        refused = await door.client.get("/api/v2.1/customers/individual/categorization/hierarchy")
        await world.connection.execute(f"GRANT {INGRESS} TO {name}")
        async with asyncio.timeout(20):
            while (await door.client.get("/api/v2.1/customers/individual/categorization/hierarchy")).status_code != 200:
                await asyncio.sleep(0.05)
    lines = [json.loads(line) for line in logged.getvalue().splitlines() if "database.denied" in line]

    assert refused.status_code == 503
    assert len(lines) == 1
    assert f'role "{name}"' in lines[0]["reason"]
    assert f"GRANT {INGRESS} TO it" in lines[0]["reason"]


async def test_an_ingress_that_no_policy_holds_for_says_so_once(world: World, tmp_path: Path, logged: io.StringIO) -> None:
    """A superuser's login serves as it did before, and is named for what it is."""
    async with opened(world.settings, tmp_path):
        guarded = logged.getvalue()
    async with opened(world.settings, tmp_path, database_url=world.settings.database_url) as door:
        answer = await door.client.get(f"/api/v2.1/customers/{registration_id().replace('reg_', 'cust_')}")

    assert "tenants.unguarded" not in guarded
    assert logged.getvalue().count("tenants.unguarded") == 1
    assert answer.status_code == 404


async def test_a_worker_without_its_rights_ends_and_says_which_to_grant(world: World) -> None:
    """Like a bug: no offset is moved."""
    _, url = await stranger(world.settings.database_url.get_secret_value())
    settings = world.settings.model_copy(update={"database_url": SecretStr(url), "group": world.topic})
    with pytest.raises(DeniedError, match=f"GRANT {WORKER} TO it"):
        await app.consume(settings, asyncio.Event(), Metrics(), lambda _health: None)

    assert await world.connection.fetchval("SELECT count(*) FROM kafka_offsets") == 0


# --- migrations -----------------------------------------------------------------------------------------------------------


async def test_migrations_of_several_databases_make_the_roles_at_once(servers: Servers, tmp_path: Path) -> None:
    """Roles belong to the server: whoever is first makes them, the others wait and go on; also where they are made already."""
    prefix = f"r{os.urandom(4).hex()}_"
    for path in FOLDER.glob("*.sql"):
        text = path.read_text()
        for group in RIGHTS:
            text = text.replace(group, group.replace("registration_", prefix))
        (tmp_path / path.name).write_text(text)
    async with copied(servers, None) as a, copied(servers, None) as b, copied(servers, None) as c, copied(servers, None) as d:
        done = await asyncio.gather(*(migrate(home.url, tmp_path) for home in (a, b, c, d)))
        made = await a.connection.fetchval("SELECT count(*) FROM pg_roles WHERE starts_with(rolname::text, $1)", prefix)
        usable = f"SELECT has_table_privilege('{prefix}worker', 'outbox', 'DELETE')"
        assert [await home.connection.fetchval(usable) for home in (a, b, c, d)] == [True] * 4

    assert [len(names) for names in done] == [len(list(FOLDER.glob("*.sql")))] * 4
    assert made == len(RIGHTS)


async def test_who_may_not_make_roles_finds_them_made(servers: Servers, template: str) -> None:
    """A migrator needs no right to make roles where an administrator has made these three."""
    assert template, "which has made the roles"
    async with copied(servers, None) as home:
        name, url = await stranger(home.url)
        with pytest.raises(DeniedError, match=r"permission denied for schema public.*as the owner"):
            await migrate(url)
        await home.connection.execute(f'ALTER DATABASE "{home.url.rpartition("/")[2]}" OWNER TO {name}')

        assert len(await migrate(url)) == len(list(FOLDER.glob("*.sql")))


async def test_who_may_not_make_roles_that_are_missing_is_told_so(servers: Servers, tmp_path: Path) -> None:
    """In one line, and nothing of that file is applied."""
    for path in FOLDER.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text().replace("registration_session", f"r{os.urandom(4).hex()}"))
    async with copied(servers, None) as home:
        name, url = await stranger(home.url)
        await home.connection.execute(f'ALTER DATABASE "{home.url.rpartition("/")[2]}" OWNER TO {name}')
        with pytest.raises(DeniedError, match=r"permission denied to create role; make the three roles as an administrator"):
            await migrate(url, tmp_path)

        assert await home.connection.fetchval("SELECT to_regclass('customers_of_tenant')") is None
