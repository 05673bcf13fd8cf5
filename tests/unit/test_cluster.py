"""What the dev cluster makes for itself: its secrets, and the people who are registered with it."""

from __future__ import annotations

from pathlib import Path

from worker.dev.cluster import make_secrets


def files(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_second_start_keeps_every_secret(tmp_path: Path) -> None:
    """Else the database would not know its processes any more."""
    make_secrets(tmp_path)
    before = files(tmp_path)
    make_secrets(tmp_path)

    assert files(tmp_path) == before


def test_a_start_that_was_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    """What is missing is made to fit what is there."""
    make_secrets(tmp_path)
    before = files(tmp_path)
    for lost in ("worker/REGISTRATION_DATABASE_URL", "worker/REGISTRATION_SEALING_KEYS", "ingress/jwks.json"):
        (tmp_path / lost).unlink()
    make_secrets(tmp_path)

    assert files(tmp_path) == before


def test_two_clusters_have_nothing_in_common(tmp_path: Path) -> None:
    """No secret is the same, and so none is known beforehand."""
    make_secrets(tmp_path / "one")
    make_secrets(tmp_path / "other")
    one, other = files(tmp_path / "one"), files(tmp_path / "other")

    assert one.keys() == other.keys()
    assert [name for name in one if one[name] == other[name]] == []


def test_each_role_gets_its_own_login_and_no_private_key_but_the_operator(tmp_path: Path) -> None:
    """A folder is all that a role's containers see."""
    make_secrets(tmp_path)
    found = files(tmp_path)
    logins = {name: content.split(b"//")[1].split(b":")[0] for name, content in found.items() if name.endswith("DATABASE_URL")}

    assert logins == {
        "ingress/REGISTRATION_DATABASE_URL": b"onboarding_ingress",
        "operator/REGISTRATION_DATABASE_URL": b"onboarding_owner",
        "worker/REGISTRATION_DATABASE_URL": b"onboarding_worker",
    }
    assert [name for name, content in found.items() if b"PRIVATE KEY" in content] == ["operator/development-key.pem"]


def test_nobody_but_the_server_s_own_user_reads_what_is_not_the_server_s(tmp_path: Path) -> None:
    """PostgreSQL's user is another one than ours, and has a volume of its own."""
    make_secrets(tmp_path)
    open_to_others = [name for name in files(tmp_path) if (tmp_path / name).stat().st_mode & 0o077]

    assert {name.split("/")[0] for name in open_to_others if not name.endswith("jwks.json")} == {"postgres"}
