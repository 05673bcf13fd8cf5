"""HTTP itself: every wrong call ends with a problem, the connection stays in order, and the log tells no value."""

from __future__ import annotations

import asyncio
import io
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import jwt
import pytest

from tests.boundary.ingress_door import HIERARCHY, IN_TIME_S, JSON, REGISTER, TENANT, Door, fits, problem_of
from tests.commands import body_of, email_of
from tests.conftest import World
from worker.dev.tokens import ADMIN_ROLE, AUDIENCE, ISSUER, PRIVATE_KEY, make_keys, make_token


async def test_a_problem_explains_itself_to_people_and_programs(door: Door) -> None:
    """The link in a problem's type leads to what the caller can do."""
    program = await door.client.get("/problems/email-taken")
    person = await door.client.get("/problems/email-taken", headers={"Accept": "text/html,*/*"})

    assert program.json()["advice"]
    assert person.headers["content-type"].startswith("text/html")
    assert program.json()["advice"] in person.text
    await fits(door, program, "/problems/{code}")
    problem_of(await door.client.get("/problems/unknown"), 404, "not-found")


async def test_the_documentation_needs_no_internet(door: Door) -> None:
    """Every script and style of it comes from here."""
    page = (await door.client.get("/docs")).text
    links = [part.split('"')[0] for mark in ('src="', 'href="') for part in page.split(mark)[1:]]

    assert links
    assert all(link.startswith("/") for link in links)
    assert [(await door.client.get(link)).status_code for link in links] == [200] * len(links)


Call: TypeAlias = tuple[str, str, dict[str, str], bytes, int, str]
"""Method, path, more headers, body; status and code of the answer."""
CALLS: Final[list[Call]] = [
    ("GET", "/", {}, b"", 404, "not-found"),
    ("GET", "/api/v2.1", {}, b"", 404, "not-found"),
    ("POST", REGISTER + "/", JSON, b"{}", 404, "not-found"),
    ("GET", HIERARCHY + "/", {}, b"", 404, "not-found"),
    ("GET", "/static-offline-docs/../../etc/passwd", {}, b"", 404, "not-found"),
    ("GET", "/redoc", {}, b"", 404, "not-found"),
    ("GET", "/metrics", {}, b"", 404, "not-found"),
    ("GET", REGISTER, {}, b"", 405, "method-not-allowed"),
    ("PUT", REGISTER, JSON, b"{}", 405, "method-not-allowed"),
    ("OPTIONS", REGISTER, {}, b"", 405, "method-not-allowed"),
    ("DELETE", "/api/v2.1/customers/cust_1", {}, b"", 405, "method-not-allowed"),
    ("GET", "/api/v2.1/customers/cust_01k8xq3c9ne6ks4v8w3mhy2gqz", {}, b"", 404, "not-found"),
    ("GET", "/api/v2.1/customers/%00", {}, b"", 404, "not-found"),
    ("GET", "/api/v2.1/customers/%ff", {}, b"", 404, "not-found"),
    ("GET", "/api/v2.1/registrations/reg_01k8xq3c9ne6ks4v8w3mhy2gqz", {}, b"", 404, "not-found"),
    ("GET", "/api/v2.1/registrations/%00", {}, b"", 404, "not-found"),
    ("GET", HIERARCHY + "/another", {}, b"", 403, "tenant-denied"),
    ("POST", REGISTER, JSON, b"", 400, "malformed-json"),
    ("POST", REGISTER, JSON, b'{"a":1,"a":2}', 400, "malformed-json"),
    ("POST", REGISTER, JSON, b"[]", 400, "validation-failed"),
    ("POST", REGISTER, JSON, b"null", 400, "validation-failed"),
    ("POST", REGISTER, JSON, b"{}", 400, "validation-failed"),
    ("POST", REGISTER, JSON, b" " * 65_537, 413, "body-too-large"),
    ("POST", REGISTER, {"Content-Type": "text/plain"}, b"{}", 415, "unsupported-media-type"),
    ("POST", REGISTER, {"Content-Type": "application/json; charset=latin-1"}, b"{}", 415, "unsupported-media-type"),
    ("POST", REGISTER, {**JSON, "Content-Encoding": "gzip"}, b"{}", 415, "unsupported-media-type"),
    ("POST", REGISTER, {**JSON, "Authorization": ""}, b"{}", 401, "token-missing"),
    ("POST", REGISTER, {**JSON, "Authorization": "Bearer x"}, b"{}", 401, "token-invalid"),
    ("POST", REGISTER, {**JSON, "X-Tenant-ID": ""}, b"{}", 400, "tenant-header-missing"),
    ("POST", REGISTER, {**JSON, "X-Tenant-ID": "another"}, b"{}", 403, "tenant-denied"),
    ("GET", "/api/v2.1/customers/cust_1", {"Authorization": ""}, b"", 401, "token-missing"),
    ("GET", HIERARCHY, {"X-Tenant-ID": ""}, b"", 400, "tenant-header-missing"),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0]} {call[1]} {call[5]}")
async def test_every_wrong_call_ends_with_a_problem(door: Door, call: Call) -> None:
    """Whoever is at fault, the answer is application/problem+json with a code."""
    method, path, headers, content, status, code = call
    answer = await door.client.request(method, path, headers=headers, content=content)

    problem_of(answer, status, code)
    assert ("www-authenticate" in answer.headers) is (status == 401)
    assert ("allow" in answer.headers) is (status == 405)


async def test_a_head_request_is_answered_without_a_body(door: Door) -> None:
    """HEAD is not offered, and its answer has the headers of a problem."""
    answer = await door.client.head(HIERARCHY)

    assert (answer.status_code, answer.headers["content-type"], answer.content) == (405, "application/problem+json", b"")


async def test_a_tenant_is_reached_by_id_or_slug_and_by_nobody_elses_token(door: Door) -> None:
    """Token, header and path must mean one tenant."""
    for named in (TENANT.id, TENANT.slug):
        assert (await door.client.get(HIERARCHY, headers={"X-Tenant-ID": named})).status_code == 200
    for role, tenant, code in ((ADMIN_ROLE, "another", "tenant-denied"), ("reader", TENANT.id, "not-admin")):
        token = make_token(door.keys, role, tenant, 60)
        answer = await door.client.get(HIERARCHY, headers={"Authorization": f"Bearer {token}"})
        problem_of(answer, 403, code)


async def test_a_token_of_another_key_with_the_same_id_is_refused(door: Door, tmp_path: Path) -> None:
    """The signature decides, whatever the header says."""
    own = make_keys(tmp_path).parent
    kid = json.loads((door.keys / "jwks.json").read_text())["keys"][0]["kid"]
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": time.time() + 60, "roles": [ADMIN_ROLE], "tenant": TENANT.id}
    forged = jwt.encode(claims, (own / PRIVATE_KEY).read_text(), algorithm="ES256", headers={"kid": kid})
    answer = await door.client.get(HIERARCHY, headers={"Authorization": f"Bearer {forged}"})

    problem_of(answer, 401, "token-invalid")


async def test_a_bug_of_ours_is_a_problem_and_is_logged_without_a_value(world: World, alone: Door, logged: io.StringIO) -> None:
    """The caller gets a trace id; the log has types and places by it."""
    await world.connection.execute("ALTER TABLE customers_of_tenant RENAME COLUMN phone TO telephone")
    answer = await alone.client.get("/api/v2.1/customers/cust_hunter2?q=hunter2")
    told = problem_of(answer, 500, "internal-error")
    lines = [json.loads(line) for line in logged.getvalue().splitlines() if told["traceId"] in line]

    assert [line["event"] for line in lines] == ["request.failed", "request.answered"]
    assert lines[0]["error"] == "DatabaseBugError"
    assert lines[0]["at"]
    assert lines[1]["route"] == "/api/v2.1/customers/{customerId}"
    assert "hunter2" not in json.dumps(lines)


async def test_the_access_log_has_one_line_without_any_value(alone: Door, logged: io.StringIO) -> None:
    """Method, route, status, code, duration and ids: nothing of body, token, query or path."""
    email = email_of("log")
    answer = await alone.client.post(
        REGISTER + "?secret=hunter2", json=body_of(email, firstName="\u0000"), headers={"Prefer": "respond-async"}
    )
    trace_id = answer.json()["traceId"]
    lines = [json.loads(line) for line in logged.getvalue().splitlines() if trace_id in line]

    assert len(lines) == 1
    assert lines[0].keys() == {"event", "level", "timestamp", "method", "route", "status", "code", "duration_ms", "trace_id"}
    assert (lines[0]["event"], lines[0]["route"], lines[0]["status"]) == ("request.answered", REGISTER, 400)


async def raw(door: Door, request: bytes, *later: bytes) -> list[bytes]:
    """Send bytes over a connection of their own; return what came back for each part, at the end until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    answers = []
    try:
        async with asyncio.timeout(IN_TIME_S):
            for part in (request, *later):
                writer.write(part)
                await writer.drain()
                answers.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write_eof()
            with suppress(ConnectionError):
                answers.append(await reader.read())
    finally:
        writer.close()
    return answers


def head(door: Door, *lines: str) -> bytes:
    """Return the head of a POST of a registration."""
    token = door.client.headers["authorization"]
    fixed = [f"POST {REGISTER} HTTP/1.1", "Host: x", f"Authorization: {token}", f"X-Tenant-ID: {TENANT.id}"]
    return "\r\n".join([*fixed, "Content-Type: application/json", *lines, "", ""]).encode()


async def test_a_client_may_ask_before_it_sends(door: Door) -> None:
    """`Expect: 100-continue` is answered with 100 where the body is wanted, and at once where it is not."""
    content = json.dumps(body_of(email_of("expect"))).encode()
    wanted = await raw(door, head(door, f"Content-Length: {len(content)}", "Expect: 100-continue"), content)
    unwanted = await raw(door, head(door, "Content-Length: 70000", "Expect: 100-continue"))

    assert wanted[0].startswith(b"HTTP/1.1 100")
    assert wanted[1].startswith(b"HTTP/1.1 201")
    assert unwanted[0].startswith(b"HTTP/1.1 413")
    assert b"connection: close" in unwanted[0]


async def test_a_chunked_body_is_bounded_too(door: Door) -> None:
    """Without a declared length, what arrives is counted."""
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    answers = await raw(door, head(door, "Transfer-Encoding: chunked") + chunk * 17 + b"0\r\n\r\n")

    assert answers[0].startswith(b"HTTP/1.1 413")


async def test_a_refusal_before_the_body_leaves_the_connection_in_order(door: Door) -> None:
    """The body that nobody read is not taken for the next request."""
    smuggled = b"GET /problems/email-taken HTTP/1.1\r\nHost: x\r\n\r\n"
    refused = f"POST {REGISTER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(smuggled)}\r\n\r\n".encode() + smuggled
    answers = b"".join(await raw(door, refused))

    assert answers.startswith(b"HTTP/1.1 401")
    assert answers.count(b"HTTP/1.1 ") == 1
