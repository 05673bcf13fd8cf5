"""Certificates and keys from files, clients that all get them, and what is said of a connection that has none."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import certificates
from tests.certificates import Certificates
from worker import logs, transport
from worker.config import PREFIX, load
from worker.dev import stack
from worker.errors import ConfigurationError
from worker.kafka import PLAINTEXT, security_of
from worker.tls import Pem, check_database, client_context, server_context

WORKER: Final = Path(transport.__file__).parent
OURS: Final = {"Member", "Membership", "Producer", "Reader", "create_topics"}
"""Of the door to Kafka: each takes `security`, but a member, which has its membership's."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made once."""
    return certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def _no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A developer's own defaults for PostgreSQL are not this test's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PGSSLMODE", "PGSSLROOTCERT", "PGHOST"):
        monkeypatch.delenv(name, raising=False)


def test_good_files_are_taken(files: Certificates) -> None:
    """With and without an authority of our own, with and without a client's certificate."""
    ca, cert, key = Pem("A", files.ca), Pem("B", files.client_cert), Pem("C", files.client_key)

    assert client_context(None, None, None).get_ca_certs() != client_context(ca, cert, key).get_ca_certs()
    assert len(client_context(ca, None, None).get_ca_certs()) == 1
    assert server_context(cert, key).cert_store_stats() == {"x509": 0, "crl": 0, "x509_ca": 0}


def _unreadable(files: Certificates) -> Path:
    return files.ca.with_name("none.pem")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda f: (_unreadable(f), f.client_cert, f.client_key), "CA: can't read"),
        (lambda f: (f.client_key, f.client_cert, f.client_key), "CA: "),
        (lambda f: (f.ca.parent, f.client_cert, f.client_key), "CA: "),
        (lambda f: (f.ca, _unreadable(f), f.client_key), "CERT: can't read"),
        (lambda f: (f.ca, f.client_key, f.client_key), "CERT: "),
        (lambda f: (f.ca, f.client_cert, _unreadable(f)), "KEY: can't read"),
        (lambda f: (f.ca, f.client_cert, f.client_cert), "KEY: "),
        (lambda f: (f.ca, f.client_cert, f.server_key), "KEY: "),
        (lambda f: (f.ca, f.client_cert, f.encrypted_key), "KEY: "),
        (lambda f: (f.ca, f.client_cert, f.ca.parent), "KEY: can't read"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_one_line_that_names_its_setting(
    files: Certificates, wrong: Callable[[Certificates], tuple[Path, Path, Path]], named: str
) -> None:
    """Missing, of another kind, another's, or behind a password that OpenSSL would ask the terminal for."""
    ca, cert, key = wrong(files)
    with pytest.raises(ConfigurationError) as raised:
        client_context(Pem("CA", ca), Pem("CERT", cert), Pem("KEY", key))

    assert str(raised.value).startswith(named)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "?sslmode=disable&sslrootcert=/none",
        "?sslmode=require",
        "?sslmode=verify-full&sslrootcert={0.ca}",
        "?sslmode=verify-ca&sslrootcert={0.ca}&sslcert={0.client_cert}&sslkey={0.client_key}",
        "?sslmode=verify-ca&sslrootcert={0.ca}&sslcert={0.both}",
        "?sslmode=require&sslcert={0.client_cert}&sslkey={0.encrypted_key}&sslpassword=open",
    ],
)
def test_a_database_url_may_name_good_files(files: Certificates, parameters: str) -> None:
    """Or none."""
    check_database(f"postgresql://u:p@db/d{parameters.format(files)}")


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ("?sslmode=verify-full", "sslmode=verify-full needs sslrootcert"),
        ("?sslmode=verify-full&sslrootcert=/none.pem", "sslrootcert: can't read /none.pem"),
        ("?sslmode=require&sslrootcert={0.client_key}", "sslrootcert: "),
        ("?sslmode=require&sslcrl=/none.pem", "sslcrl: can't read"),
        ("?sslmode=require&sslcrl={0.client_key}", "sslcrl: "),
        ("?sslmode=require&sslcert=/none.pem", "sslcert: can't read"),
        ("?sslmode=require&sslcert={0.client_cert}&sslkey={0.server_key}", "sslkey: "),
        ("?sslmode=require&sslcert={0.client_cert}&sslkey={0.encrypted_key}&sslpassword=swordfish", "sslkey: "),
    ],
)
def test_a_database_url_with_a_wrong_file_is_one_line(files: Certificates, parameters: str, named: str) -> None:
    """It names the parameter, and repeats no password."""
    with pytest.raises(ConfigurationError) as raised:
        check_database(f"postgresql://u:Hq3vZ@db/d{parameters.format(files)}")

    assert str(raised.value).startswith(f"REGISTRATION_DATABASE_URL: {named}")
    assert "Hq3vZ" not in str(raised.value)
    assert "swordfish" not in str(raised.value)


def test_no_mode_of_the_environment_is_guessed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver would refuse it at each connection."""
    monkeypatch.setenv("PGSSLMODE", "on")
    with pytest.raises(ConfigurationError, match=r"^PGSSLMODE: must be one of disable, "):
        check_database("postgresql://db/d")


UNENCRYPTED, UNVERIFIED = "connection.unencrypted", "connection.unverified"


@pytest.mark.parametrize(
    ("bootstrap", "url", "said"),
    [
        ("localhost:9092,127.0.0.1:9093,[::1]:9094", "postgresql://localhost/d", []),
        ("[::1]:9092", "postgresql://u:p@[::1]:5432/d", []),
        ("localhost", "postgresql:///d?host=/run/postgresql", []),
        ("localhost", "postgresql://%2Frun%2Fpostgresql/d", []),
        ("localhost", "postgresql:///d", []),
        ("127.0.0.1:9092,kafka-2:9092", "postgresql://localhost/d", [(UNENCRYPTED, "kafka")]),
        ("localhost", "postgresql://u:p@db/d", [(UNENCRYPTED, "database")]),
        ("localhost", "postgresql://localhost,10.0.0.7/d?sslmode=prefer", [(UNENCRYPTED, "database")]),
        ("localhost", "postgresql:///d?host=db&sslmode=disable", [(UNENCRYPTED, "database")]),
        ("localhost", "postgresql://u:p@db/d?sslmode=require", [(UNVERIFIED, "database")]),
        ("localhost", "postgresql://u:p@db/d?sslmode=require&sslrootcert=/ca.pem", []),
        ("localhost", "postgresql://u:p@db/d?sslmode=verify-full&sslrootcert=/ca.pem", []),
        ("k1,k2", "postgresql://db:5432/d", [(UNENCRYPTED, "kafka"), (UNENCRYPTED, "database")]),
    ],
)
def test_a_way_that_leaves_this_machine_unprotected_is_said_at_start(bootstrap: str, url: str, said: list[tuple[str, str]]) -> None:
    """One line for each server, and nothing of the URL in it."""
    found = _said(kafka_bootstrap=bootstrap, database_url=url)

    assert [(line["event"], line["service"]) for line in found] == said
    assert all(line["level"] == "warning" and "u:p" not in json.dumps(line) for line in found)


@pytest.mark.parametrize(("protocol", "count"), [("SSL", 0), ("SASL_SSL", 0), ("SASL_PLAINTEXT", 1), ("PLAINTEXT", 1)])
def test_a_login_alone_encrypts_nothing(protocol: str, count: int) -> None:
    """Only TLS does."""
    login = {"kafka_security_username": "u", "kafka_security_password": "p"} if protocol.startswith("SASL") else {}
    found = _said(kafka_bootstrap="k:1", database_url="postgresql:///d", kafka_security_protocol=protocol, **login)

    assert len(found) == count


def _said(**settings: str) -> list[dict[str, str]]:
    stream = io.StringIO()
    logs.configure("INFO", "json", stream)
    try:
        transport.warn(load(**settings))
    finally:
        logs.configure("INFO", "json")
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_settings_are_what_clients_are_made_with(files: Certificates) -> None:
    """As aiokafka names them; without TLS there is no context, without settings no login."""
    plain = security_of(load(kafka_bootstrap="k:1", database_url="postgresql:///d")).arguments()
    login = {"kafka_security_username": "someone", "kafka_security_password": "Hq3vZ", "kafka_security_mechanism": "SCRAM-SHA-256"}
    tls = {
        "kafka_security_ca_file": files.ca,
        "kafka_security_cert_file": files.client_cert,
        "kafka_security_key_file": files.client_key,
    }
    whole = security_of(
        load(kafka_bootstrap="k:1", database_url="postgresql:///d", kafka_security_protocol="SASL_SSL", **login, **tls)
    )
    context = whole.arguments().pop("ssl_context")

    assert (plain["security_protocol"], plain["ssl_context"]) == ("PLAINTEXT", None)
    assert whole.arguments() == {
        "security_protocol": "SASL_SSL",
        "ssl_context": context,
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "someone",
        "sasl_plain_password": "Hq3vZ",
    }
    assert context.check_hostname
    assert "Hq3vZ" not in repr(whole)


def test_the_readmes_settings_of_encryption_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy, paste, and nothing is warned of."""
    section = (WORKER.parent / "README.md").read_text().partition("## Encrypt it\n")[2].partition("\n## ")[0]
    given = dict(re.findall(r"^export (\w+)='(.*)'$", section, re.MULTILINE))
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load()

    assert {name.removeprefix(PREFIX).lower() for name in given} <= settings.model_fields_set
    assert _said() == []


def test_the_development_stack_encrypts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is all on this machine, whatever the developer's environment says of another cluster."""
    for name, value in {"PROTOCOL": "SASL_SSL", "USERNAME": "u", "PASSWORD": "p", "CA_FILE": "/ca.pem"}.items():
        monkeypatch.setenv(f"{PREFIX}KAFKA_SECURITY_{name}", value)
    monkeypatch.setenv(f"{PREFIX}HTTP_TLS_CERT_FILE", "/cert.pem")
    settings = stack._settings({f"{PREFIX}KAFKA_BOOTSTRAP": "k:1", f"{PREFIX}DATABASE_URL": "postgresql:///d"}, 0)

    assert security_of(settings) == PLAINTEXT
    assert settings.http_tls_cert_file is None


def test_no_client_of_kafka_is_forgotten() -> None:
    """Wherever aiokafka's clients are made, they get the security's arguments; wherever ours are, they get a security."""
    made = {"AIOKafka": 0, "ours": 0}
    for path, call, name in _calls():
        if name.startswith("AIOKafka"):
            made["AIOKafka"] += 1
            spread = [ast.unparse(each.value) for each in call.keywords if each.arg is None]

            assert [text for text in spread if text.endswith("security.arguments()")], f"{path}:{call.lineno} {name}"
        elif name in OURS - {"Member"}:
            made["ours"] += 1

            assert "security" in {each.arg for each in call.keywords}, f"{path}:{call.lineno} {name}"

    assert made["AIOKafka"] >= 4
    assert made["ours"] >= 8


def _calls() -> Iterator[tuple[Path, ast.Call, str]]:
    """Yield each call in the product with the name of what is called; `admin.create_topics` is aiokafka's own."""
    for path in WORKER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="admin"))):
                    pass
                case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
                    yield path.relative_to(WORKER), node, name
