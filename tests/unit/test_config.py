"""Settings: a missing or wrong one is one line that names it, and a secret is never shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.config import PREFIX, Settings, load
from worker.errors import ConfigurationError

NEEDED = {"REGISTRATION_KAFKA_BOOTSTRAP": "localhost:9092", "REGISTRATION_DATABASE_URL": "postgresql://u:p@localhost/d"}
SECRET = "Hq3vZ-swordfish"
UNITS = ("_s", "_bytes", "_max", "_min")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with the two settings that a worker needs, and no other of ours."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_a_worker_needs_two_settings() -> None:
    """Everything else has a default."""
    settings = load()

    assert settings.kafka_bootstrap == "localhost:9092"
    assert settings.database_url.get_secret_value() == NEEDED["REGISTRATION_DATABASE_URL"]


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_setting_is_one_line_that_names_it(environment: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    """Whether it is not there or empty."""
    if value is None:
        environment.delenv(name)
    else:
        environment.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        load()

    assert str(raised.value).startswith(f"{name}: ")
    assert "\n" not in str(raised.value)


def test_all_missing_settings_are_named_at_once(environment: pytest.MonkeyPatch) -> None:
    """Nobody starts it five times to learn five names."""
    for name in NEEDED:
        environment.delenv(name)
    with pytest.raises(ConfigurationError) as raised:
        load()

    for name in NEEDED:
        assert name in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REGISTRATION_PROCESSES", "0"),
        ("REGISTRATION_PROCESSES", "many-swordfish"),
        ("REGISTRATION_BATCH_TIMEOUT_S", "0"),
        ("REGISTRATION_BATCH_TIMEOUT_S", "nan"),
        ("REGISTRATION_BATCH_TIMEOUT_S", "inf"),
        ("REGISTRATION_LOOK_INTERVAL_S", "-1"),
        ("REGISTRATION_HTTP_PORT", "65536"),
        ("REGISTRATION_LOG_LEVEL", "LOUD-swordfish"),
        ("REGISTRATION_DATABASE_URL", f"mysql://user:{SECRET}@localhost/db"),
        ("REGISTRATION_DATABASE_URL", f"host=localhost password={SECRET}"),
        ("REGISTRATION_DATABASE_URL", f"postgresql://user:{SECRET}@localhost:port/db"),
        ("REGISTRATION_DATABASE_URL", f"user:{SECRET}@localhost/db"),
        ("REGISTRATION_JWKS_URL", f"identity.example.com/keys?key={SECRET}"),
        ("REGISTRATION_JWKS_URL", f"ftp://reader:{SECRET}@identity.example.com/keys"),
        ("REGISTRATION_JWKS_URL", f"https://reader:{SECRET}@/keys"),
        ("REGISTRATION_JWKS_URL", f"https://reader:{SECRET}@identity.example.com:65536/keys"),
        ("REGISTRATION_JWKS_URL", f"https://reader:{SECRET}@identity.example.com/keys#part"),
        ("REGISTRATION_JWKS_URL", f"http://reader:{SECRET}@identity.example.com/keys"),
        ("REGISTRATION_JWKS_URL", f"http://reader:{SECRET}@127.0.0.1:8080/keys"),
        ("REGISTRATION_JWKS_REFRESH_S", "5"),
        ("REGISTRATION_JWKS_REFRESH_S", "86400"),
        ("REGISTRATION_JWKS_CA_FILE", f"/{SECRET}.pem"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it_and_not_its_value(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A value may be a secret, or stand in the wrong variable."""
    environment.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        load()

    assert str(raised.value).startswith(f"{name}: ")
    assert "\n" not in str(raised.value)
    assert "swordfish" not in str(raised.value)
    assert raised.value.__suppress_context__


LOGIN = {"KAFKA_SECURITY_USERNAME": "worker", "KAFKA_SECURITY_PASSWORD": SECRET}
FILES = {"KAFKA_SECURITY_CERT_FILE": "/client.pem", "KAFKA_SECURITY_KEY_FILE": "/client.key"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, ["KAFKA_SECURITY_PROTOCOL"]),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", **LOGIN, "KAFKA_SECURITY_MECHANISM": "PLAIN"}, ["KAFKA_SECURITY_MECHANISM"]),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, ["KAFKA_SECURITY_USERNAME", "KAFKA_SECURITY_PASSWORD"]),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SECURITY_USERNAME": "worker"}, ["KAFKA_SECURITY_PASSWORD"]),
        (LOGIN, ["KAFKA_SECURITY_USERNAME", "KAFKA_SECURITY_PASSWORD"]),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", **LOGIN}, ["KAFKA_SECURITY_USERNAME", "KAFKA_SECURITY_PASSWORD"]),
        ({"KAFKA_SECURITY_CA_FILE": "/ca.pem"}, ["KAFKA_SECURITY_CA_FILE"]),
        (FILES, ["KAFKA_SECURITY_CERT_FILE", "KAFKA_SECURITY_KEY_FILE"]),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SECURITY_CERT_FILE": "/client.pem"}, ["KAFKA_SECURITY_KEY_FILE"]),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SECURITY_KEY_FILE": "/client.key"}, ["KAFKA_SECURITY_CERT_FILE"]),
        ({"HTTP_TLS_CERT_FILE": "/server.pem"}, ["HTTP_TLS_KEY_FILE"]),
        ({"HTTP_TLS_KEY_FILE": "/server.key"}, ["HTTP_TLS_CERT_FILE"]),
        ({"DATABASE_URL": f"postgresql://u:{SECRET}@db/d?sslmode=on"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": f"postgresql://u:p@db/d?sslpassword={SECRET}&sslmode"}, ["DATABASE_URL"]),
    ],
)
def test_settings_of_encryption_that_do_not_fit_are_one_line_that_names_each(
    environment: pytest.MonkeyPatch, given: dict[str, str], named: list[str]
) -> None:
    """Also those that would silently do nothing: whoever sets a password believes that it is asked for."""
    for name, value in given.items():
        environment.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(ConfigurationError) as raised:
        load()

    assert [fault.partition(": ")[0] for fault in str(raised.value).split("; ")] == [f"{PREFIX}{name}" for name in named]
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_settings_of_encryption_that_fit_are_taken_and_printed_without_the_password(
    environment: pytest.MonkeyPatch, protocol: str
) -> None:
    """Which files and which user an operator wants to see."""
    given = {"KAFKA_SECURITY_PROTOCOL": protocol, **FILES, **(LOGIN if protocol == "SASL_SSL" else {})}
    url = f"postgresql://u:{SECRET}@db/d?sslpassword={SECRET}&sslmode=verify-full"
    for name, value in {**given, "DATABASE_URL": url}.items():
        environment.setenv(f"{PREFIX}{name}", value)
    shown = load().printable()

    assert shown["kafka_security_protocol"] == protocol
    assert shown["kafka_security_cert_file"] == FILES["KAFKA_SECURITY_CERT_FILE"]
    assert shown["database_url"] == "postgresql://u:***@db/d?sslmode=verify-full"
    assert SECRET not in json.dumps(shown)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@localhost/db",
        f"postgres://user:{SECRET}@localhost:5433/db",
        f"postgresql://user:{SECRET}@[::1]/db",
        f"postgresql://user:{SECRET}@one:5432,two:5433/db?target_session_attrs=read-write",
        f"postgresql://user@localhost/db?password={SECRET}",
        f"postgresql://localhost/db?user=u&password={SECRET}&sslmode=require",
        f"postgresql://user:{SECRET}%40x@localhost/db",
        f"postgresql://user:x@y{SECRET}@localhost/db",
        f"postgresql:///db?host=/run/postgresql&password={SECRET}",
    ],
)
def test_a_database_url_is_shown_without_its_password(environment: pytest.MonkeyPatch, url: str) -> None:
    """Wherever in it the password stands, and whichever form of PostgreSQL's URLs it has."""
    environment.setenv("REGISTRATION_DATABASE_URL", url)
    environment.setenv("REGISTRATION_SEALING_KEYS", f"key:{SECRET}")
    settings = load()

    for shown in (json.dumps(settings.printable()), repr(settings), str(settings)):
        assert SECRET not in shown
    assert "db" in settings.printable()["database_url"]
    assert settings.database_url.get_secret_value() == url


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "identity.example.com"])
def test_keys_come_over_https_or_in_development_from_this_machine(environment: pytest.MonkeyPatch, host: str) -> None:
    """Whoever is on the way of plain HTTP could hand out keys of their own."""
    environment.setenv("REGISTRATION_JWKS_URL", f"http://{host}:8080/keys")
    with pytest.raises(ConfigurationError, match=r"^REGISTRATION_JWKS_URL: must be `https://host/path`$"):
        load()
    environment.setenv("REGISTRATION_DEVELOPMENT", "true")
    if host == "identity.example.com":
        with pytest.raises(ConfigurationError):
            load()
    else:
        assert load().printable()["jwks_url"] == f"http://{host}:8080/keys"


def test_keys_come_from_one_place(environment: pytest.MonkeyPatch) -> None:
    """Which of two would hold is nobody's guess."""
    environment.setenv("REGISTRATION_JWKS_URL", "https://identity.example.com/keys")
    environment.setenv("REGISTRATION_JWKS_FILE", "/keys/jwks.json")
    with pytest.raises(ConfigurationError, match=r"^REGISTRATION_JWKS_URL: .*REGISTRATION_JWKS_FILE$"):
        load()


def test_an_identity_providers_url_is_shown_without_what_may_be_secret(environment: pytest.MonkeyPatch) -> None:
    """Neither whom it knows us as, nor a query."""
    environment.setenv("REGISTRATION_JWKS_URL", f"https://reader:{SECRET}@identity.example.com:8443/keys?key={SECRET}")
    settings = load()

    assert settings.printable()["jwks_url"] == "https://identity.example.com:8443/keys"
    assert SECRET not in json.dumps(settings.printable()) + repr(settings)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="%/?#[]"), min_size=6, max_size=20))
def test_no_password_is_shown(password: str) -> None:
    """Whatever characters it has."""
    found = load(kafka_bootstrap="k:1", database_url=f"postgresql://user:{password}Zq9@localhost/db").printable()

    assert f"{password}Zq9" not in json.dumps(found, ensure_ascii=False)
    assert "localhost" in found["database_url"]


def test_every_setting_is_printable_as_json_and_named_for_its_unit(environment: pytest.MonkeyPatch) -> None:
    """All are printed at start; a number of seconds or bytes says so at the end of its name."""
    environment.setenv("REGISTRATION_JWKS_FILE", "/keys/jwks.json")
    shown = json.loads(json.dumps(load().printable()))

    assert shown.keys() == Settings.model_fields.keys()
    for name, field in Settings.model_fields.items():
        assert field.description
        assert re.fullmatch(r"[A-Z`].*\.", field.description), name
        if field.annotation is float:
            assert name.endswith("_s"), name


def test_settings_do_not_change() -> None:
    """A process is what it was told at its start."""
    settings = load(kafka_bootstrap="k:1", database_url="postgresql://localhost/d")

    with pytest.raises(ValueError, match="frozen"):
        setattr(settings, "group", "other")  # noqa: B010 - the type checker knows it too


def test_no_file_is_read_for_settings(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A `.env` that lies about does not configure a bank's worker."""
    (tmp_path / ".env").write_text("REGISTRATION_GROUP=from-a-file\n")
    environment.chdir(tmp_path)

    assert load().group == "registration-worker"


@pytest.mark.usefixtures("environment")
def test_a_secret_may_be_a_file_and_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As containers have them: named like the variable."""
    monkeypatch.setattr("worker.config.SECRETS", tmp_path)
    (tmp_path / "REGISTRATION_PUBLISH_KEY").write_text(f"{SECRET}\n")
    (tmp_path / "REGISTRATION_KAFKA_BOOTSTRAP").write_text("elsewhere:9092")
    settings = load()

    assert settings.publish_key.get_secret_value() == SECRET
    assert settings.kafka_bootstrap == NEEDED["REGISTRATION_KAFKA_BOOTSTRAP"]
