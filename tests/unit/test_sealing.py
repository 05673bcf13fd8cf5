"""Sealing: a box opens with a key that is there, in its own place, unchanged; a wrong key is named by its variable only."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import ConfigurationError
from worker.sealing import Sealer, UnsealableError

OLD = base64.b64encode(bytes(range(32))).decode()
NEW = base64.b64encode(bytes(range(1, 33))).decode()
PLACE = "customer.registration.commands.v1/3/41"
OURS = Sealer(f"old:{OLD}")


@given(st.binary(max_size=200), st.text(max_size=20))
def test_what_was_sealed_is_opened_in_its_place(plain: bytes, place: str) -> None:
    """Any bytes, none too."""
    assert OURS.open(OURS.seal(plain, place), place) == plain


@given(st.binary(min_size=8, max_size=200))
def test_a_box_shows_nothing_and_is_never_the_same_twice(plain: bytes) -> None:
    """Each has a nonce of its own."""
    first, second = OURS.seal(plain, PLACE), OURS.seal(plain, PLACE)

    assert plain not in first
    assert first != second


@pytest.mark.parametrize("place", ["", PLACE + " ", "customer.registration.commands.v1/3/42", "other/3/41"])
def test_a_box_copied_to_another_place_does_not_open(place: str) -> None:
    """Nobody passes one record's payload off as another's."""
    with pytest.raises(UnsealableError):
        OURS.open(OURS.seal(b"secret", PLACE), place)


@given(st.data())
def test_a_box_that_was_changed_does_not_open(data: st.DataObject) -> None:
    """Not by a bit, anywhere: name, nonce, content or tag; nor one that was cut."""
    box = bytearray(OURS.seal(b"secret", PLACE))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(box) - 1))
        box[at] ^= data.draw(st.integers(1, 255))
    else:
        box = box[: data.draw(st.integers(0, len(box) - 1))]

    with pytest.raises(UnsealableError):
        OURS.open(bytes(box), PLACE)


@given(st.binary(max_size=60))
def test_what_is_no_box_does_not_open(box: bytes) -> None:
    """And raises nothing else."""
    with pytest.raises(UnsealableError):
        OURS.open(box, PLACE)


def test_keys_are_rotated_by_putting_a_new_one_first() -> None:
    """The first seals, all open; without the old one its boxes stay shut."""
    both, new = Sealer(f"new:{NEW},old:{OLD}"), Sealer(f"new:{NEW}")
    before, after = OURS.seal(b"before", PLACE), both.seal(b"after", PLACE)

    assert both.open(before, PLACE) == b"before"
    assert new.open(after, PLACE) == b"after"
    with pytest.raises(UnsealableError):
        new.open(before, PLACE)
    with pytest.raises(UnsealableError):
        OURS.open(after, PLACE)


def test_another_key_of_the_same_name_does_not_open() -> None:
    """A name is no key."""
    with pytest.raises(UnsealableError):
        Sealer(f"old:{NEW}").open(OURS.seal(b"secret", PLACE), PLACE)


def test_spaces_and_a_last_comma_are_no_fault() -> None:
    """Lists are edited by people."""
    spaced = Sealer(f" new:{NEW} , old:{OLD} ,")

    assert spaced.open(OURS.seal(b"secret", PLACE), PLACE) == b"secret"


@pytest.mark.parametrize(
    "keys",
    {
        "none": "",
        "commas": ",,",
        "no name": f":{OLD}",
        "no colon": OLD,
        "no key": "old:",
        "short": f"old:{base64.b64encode(bytes(16)).decode()}",
        "long": f"old:{base64.b64encode(bytes(33)).decode()}",
        "no base64": f"old:{OLD[:-4]}!!!=",
        "cut": f"old:{OLD[:-1]}",
        "URL-safe base64": f"old:{base64.urlsafe_b64encode(bytes([251] * 32)).decode()}",
        "hexadecimal": f"old:{bytes(range(32)).hex()}",
        "not ASCII": f"old:{OLD[:-2]}é=",
        "the second one": f"new:{NEW},old:{OLD[:10]}",
        "two of one name": f"old:{NEW},old:{OLD}",
        "a zero byte in a name": f"o\0ld:{OLD}",
    }.items(),
    ids=lambda each: each[0],
)
def test_a_wrong_key_names_its_variable_and_never_itself(keys: tuple[str, str]) -> None:
    """One line that an operator can act on, without traceback and without the secret."""
    with pytest.raises(ConfigurationError) as raised:
        Sealer(keys[1])

    text = str(raised.value)
    assert "REGISTRATION_SEALING_KEYS" in text
    assert "\n" not in text
    assert OLD[:8] not in text
    assert NEW[:8] not in text
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_sealer_does_not_show_its_keys() -> None:
    """Neither in a log nor in a traceback."""
    assert OLD not in repr(OURS)
    assert OLD not in repr(vars(OURS))
