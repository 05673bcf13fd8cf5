"""Nobody is ever shown another tenant's row: every path, with every id, under every mixture of claim, header and path."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final
from urllib.parse import quote

import httpx
import pytest
import yaml

from tests.boundary.ingress_door import HIERARCHY, JSON, REGISTER, TENANT, Door, logged_in, opened, problem_of
from tests.commands import body_of
from tests.conftest import settings_of, url_of
from tests.servers import Servers
from worker import app
from worker.core import ids
from worker.dev.logins import WORKER
from worker.dev.stack import CATALOGUE
from worker.dev.tokens import ADMIN_ROLE, make_token
from worker.ingress import routes
from worker.ingress.answers import CUSTOMERS, REGISTRATIONS
from worker.operate import catalogue
from worker.postgres import Connection, connect, statement

OTHERS: Final = (("o'hara\";--$1", "ohara"), ("0000-1111", "union"))
"""Id and slug of further tenants; the first id would leave any quotes."""
SHARED: Final = "shared@example.com"
"""An email with a customer in each tenant."""


@dataclass(frozen=True, slots=True)
class Bank:
    """One tenant: how it is reached, and what it has."""

    id: str
    slug: str
    customers: Sequence[str]
    registrations: Sequence[str]
    others: Sequence[str]
    """Ids of its users and persons, which no path takes."""

    @property
    def names(self) -> tuple[str, str]:
        """By which a caller may name it."""
        return self.id, self.slug

    @property
    def marks(self) -> tuple[str, ...]:
        """What an answer for another tenant must never hold."""
        return (*self.customers, *self.registrations, *self.others, self.mark)

    @property
    def mark(self) -> str:
        """Stand in an email of its own."""
        return f"only.{self.slug}"

    def has(self, id_: str) -> bool:
        """Say whether it is the id of something that a path shows."""
        return id_ in (*self.customers, *self.registrations)


@dataclass(frozen=True, slots=True)
class City:
    """An ingress with few connections and three tenants behind it, and a client that says nothing of itself."""

    door: Door
    client: httpx.AsyncClient
    tokens: Mapping[str, str]
    banks: Sequence[Bank]
    connection: Connection

    def headers(self, claim: str, *named: str) -> list[tuple[str, str]]:
        """Return the headers of a caller whose token has that claim, and who names these tenants."""
        token = self.tokens.get(claim) or make_token(self.door.keys, ADMIN_ROLE, claim, 600)
        return [("Authorization", f"Bearer {token}"), *(("X-Tenant-ID", each) for each in named)]

    async def get(self, path: str, claim: str, *named: str) -> httpx.Response:
        """Ask for a path."""
        return await self.client.get(path, headers=self.headers(claim, *named))


@pytest.fixture(scope="module")
async def city(servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[City]:
    """Three tenants by variants of the development catalogue, with customers, a refusal and a pending registration each."""
    name, folder = f"tenants_{os.urandom(6).hex()}", tmp_path_factory.mktemp("tenants")
    admin = await connect(servers.postgres.url, "tests")
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        settings = settings_of(servers, url_of(servers, name), group=name)
        for id_, slug in OTHERS:
            document = yaml.safe_load(CATALOGUE.read_text())
            document["tenant"] |= {"id": id_, "slug": slug, "name": f"Bank {slug}"}
            path = folder / f"{slug}.yaml"
            path.write_text(yaml.safe_dump(document))
            url = settings.database_url.get_secret_value()
            assert isinstance(await catalogue.apply(url, path, by="tests", yes=True), catalogue.Applied)
        connection, stop = await connect(url_of(servers, name), "tests"), asyncio.Event()
        async with opened(settings, folder, database_connections=2) as door:
            own_login = await logged_in(settings, WORKER)
            working = asyncio.create_task(app.consume(own_login, stop, door.metrics, lambda _health: None))
            try:
                tenants = [(TENANT.id, TENANT.slug), *OTHERS]
                secret = await connection.fetchval("SELECT value FROM ingress_keys WHERE name = 'registration-tag'")
                banks = await asyncio.gather(*(founded(door, secret, *tenant) for tenant in tenants))
                tokens = {name: make_token(folder, ADMIN_ROLE, name, 3600) for bank in banks for name in bank.names}
                async with httpx.AsyncClient(base_url=door.client.base_url, timeout=30) as client:
                    yield City(door, client, tokens, banks, connection)
            finally:
                stop.set()
                await working
        await connection.close()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


async def founded(door: Door, secret: bytes, id_: str, slug: str) -> Bank:
    """Register a tenant's customers: one with an email of its own, one with the email that each has, and once too often."""
    token = make_token(door.keys, ADMIN_ROLE, slug, 600)
    headers = {"Authorization": f"Bearer {token}", "X-Tenant-ID": slug, "Prefer": "wait=60"}
    made = []
    for email in (f"only.{slug}@example.com", SHARED):
        answer = await door.client.post(REGISTER, json=body_of(email), headers=headers)
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["data"])
    refused = problem_of(await door.client.post(REGISTER, json=body_of(SHARED), headers=headers), 409, "email-taken")
    pending = ids.new_registration(id_, secret, time.time_ns() // 1_000_000, os.urandom(5))
    shown = [(await door.client.get(f"{CUSTOMERS}/{data['id']}", headers=headers)).json()["data"] for data in made]
    return Bank(
        id_,
        slug,
        [data["id"] for data in made],
        [*(each["registrationId"] for each in shown), refused["registrationId"], pending],
        [data[kind] for data in made for kind in ("userId", "personId")],
    )


def holds_no_foreign(city: City, own: Bank, answer: httpx.Response) -> None:
    """Hold an answer, with its headers, against everything that other tenants have."""
    text = answer.text + repr(answer.headers)
    foreign = [mark for bank in city.banks if bank is not own for mark in bank.marks]
    asked = str(answer.request.url)
    assert [mark for mark in foreign if mark in text and mark not in asked] == []


@pytest.mark.parametrize("number", range(3))
async def test_every_id_of_another_tenant_is_not_found(city: City, number: int) -> None:
    """Each path with each id that there is: one's own are shown, all others are 404, and a foreign tenant's tree is 403."""
    own = city.banks[number]
    everything = [each for bank in city.banks for each in (*bank.customers, *bank.registrations, *bank.others, *bank.names)]
    for path, id_ in product((CUSTOMERS, REGISTRATIONS, HIERARCHY), everything):
        answer = await city.get(f"{path}/{quote(id_, safe='')}", own.slug, own.slug)
        shown = {CUSTOMERS: own.customers, REGISTRATIONS: own.registrations, HIERARCHY: own.names}[path]
        if id_ in shown:
            assert answer.status_code == 200, (path, id_)
        else:
            problem_of(answer, *((403, "tenant-denied") if path == HIERARCHY else (404, "not-found")))
        holds_no_foreign(city, own, answer)


async def test_claim_header_and_path_must_mean_one_tenant(city: City) -> None:
    """By id or slug: every mixture is 403, whatever object is asked for; what agrees is served to that tenant alone."""
    by_name = {name: bank for bank in city.banks for name in bank.names}
    for claim, named in product(by_name, by_name):
        own = by_name[claim]
        agree = by_name[named] is own
        asked = {f"{HIERARCHY}/{quote(in_path, safe='')}": agree and bank is own for in_path, bank in by_name.items()}
        asked |= {f"{CUSTOMERS}/{bank.customers[0]}": agree for bank in city.banks}
        asked |= {f"{REGISTRATIONS}/{bank.registrations[0]}": agree for bank in city.banks}
        for path, is_one in asked.items():
            answer = await city.get(path, claim, named)
            holds_no_foreign(city, own, answer)
            if not is_one:
                problem_of(answer, 403, "tenant-denied")
            else:
                is_own = path.startswith(HIERARCHY) or own.has(path.rpartition("/")[2])
                assert answer.status_code == (200 if is_own else 404), (claim, named, path)


async def test_a_registration_is_never_taken_in_for_a_tenant_on_which_not_all_agree(city: City) -> None:
    """Before the body is read; where they agree, it is looked at. A second header that disagrees counts too."""
    by_name = {name: bank for bank in city.banks for name in bank.names}
    for claim, named in product(by_name, by_name):
        headers = [*city.headers(claim, named), *JSON.items()]
        answer = await city.client.post(REGISTER, content=b"{}", headers=headers)
        wanted = (400, "validation-failed") if by_name[claim] is by_name[named] else (403, "tenant-denied")
        problem_of(answer, *wanted)
        both = await city.get(HIERARCHY, claim, by_name[claim].slug, named)
        assert both.status_code == (200 if by_name[claim] is by_name[named] else 403)


async def test_what_disagrees_in_odd_ways_is_denied(city: City) -> None:
    """No blank, no case, no list and no half of an id leads to a tenant."""
    own, other = city.banks[0], city.banks[1]
    odd = (
        "",
        "*",
        "%",
        own.id[:-1],
        own.id.upper(),
        own.slug.upper(),
        f"{own.slug},{own.slug}",
        f"{own.slug},{other.slug}",
        "null",
    )
    for name in odd:
        for claim, named in ((name, own.slug), (own.slug, name), (name, name)):
            answer = await city.get(f"{CUSTOMERS}/{own.customers[0]}", claim, named)
            assert (answer.status_code, answer.json()["code"]) in {(403, "tenant-denied"), (400, "tenant-header-missing")}, name


async def test_a_query_that_forgets_its_tenant_shows_no_foreign_row(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database itself holds the line: the same paths, with a statement that asks for the customer's id alone."""
    text = statement("customer")
    forgetful = text.replace("c.tenant_id = $1 AND", "$1::text IS NOT NULL AND")
    assert forgetful != text
    monkeypatch.setattr(routes, "statement", lambda name: forgetful if name == "customer" else statement(name))
    for own, bank in product(city.banks, city.banks):
        for id_ in bank.customers:
            answer = await city.get(f"{CUSTOMERS}/{id_}", own.slug, own.id)
            assert answer.status_code == (200 if bank is own else 404)
            holds_no_foreign(city, own, answer)


async def test_many_at_once_over_few_sessions_see_their_own_alone(city: City) -> None:
    """All tenants over two pooled sessions, while sessions are cut off in mid-transaction; afterwards all is served."""
    chance = random.Random(11)
    ask = [(own, path, id_, bank) for own in city.banks for bank in city.banks for path, id_ in paths_of(bank)]
    statuses: dict[int, int] = {}

    async def one(own: Bank, path: str, id_: str, bank: Bank) -> None:
        answer = await city.get(f"{path}/{id_}", own.slug, own.id)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code in {200 if bank is own else 404, 503}, answer.text
        holds_no_foreign(city, own, answer)

    async def cut_off(done: asyncio.Event) -> int:
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'registration-ingress' AND state <> 'idle'"
        )
        cut = 0
        while not done.is_set():
            cut += await city.connection.fetchval(query)
            await asyncio.sleep(0.01)
        return cut

    done = asyncio.Event()
    cutting = asyncio.create_task(cut_off(done))
    for _ in range(4):
        chance.shuffle(ask)
        await asyncio.gather(*(one(*each) for each in ask))
    done.set()
    cut = await cutting
    before = dict(statuses)
    await asyncio.gather(*(one(*each) for each in ask))

    assert cut > 0
    assert before[200] > 0
    assert statuses[200] - before[200] == sum(own is bank for own, _, _, bank in ask)


def paths_of(bank: Bank) -> list[tuple[str, str]]:
    """Return every path to something of a tenant."""
    return [*((CUSTOMERS, each) for each in bank.customers), *((REGISTRATIONS, each) for each in bank.registrations)]


async def test_one_email_has_a_customer_in_each_tenant(city: City) -> None:
    """Neither tenant learns of the other's."""
    found: Mapping[str, str] = {
        row["tenant_id"]: row["customer_id"]
        for row in await city.connection.fetch("SELECT tenant_id, customer_id FROM customers WHERE email = $1", SHARED)
    }

    assert found == {bank.id: bank.customers[1] for bank in city.banks}
