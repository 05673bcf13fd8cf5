"""Ids: what follows from a registration follows always, and what we did not make we do not take for ours."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typeid import TypeID

from worker.core import ids

KINDS = (ids.CUSTOMER, ids.USER, ids.PERSON, ids.EVENT)
SECRET = bytes(range(16))
REGISTRATION = "reg_01h455vb4pex5vsknk084sn02q"
"""The TypeID specification's example of a UUIDv7, as a registration."""
VALID = {
    "00000000000000000000000000": "00000000-0000-0000-0000-000000000000",
    "00000000000000000000000001": "00000000-0000-0000-0000-000000000001",
    "0000000000000000000000000a": "00000000-0000-0000-0000-00000000000a",
    "0000000000000000000000000g": "00000000-0000-0000-0000-000000000010",
    "00000000000000000000000010": "00000000-0000-0000-0000-000000000020",
    "7zzzzzzzzzzzzzzzzzzzzzzzzz": "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "0123456789abcdefghjkmnpqrs": "0110c853-1d09-52d8-d73e-1194e95b5f19",
    "01h455vb4pex5vsknk084sn02q": "01890a5d-ac96-774b-bcce-b302099a8057",
}
INVALID = {
    "of another kind": "prefix_01h455vb4pex5vsknk084sn02q",
    "without a prefix": "01h455vb4pex5vsknk084sn02q",
    "prefix in upper case": "REG_00000000000000000000000000",
    "prefix numeric": "12345_00000000000000000000000000",
    "prefix with a period": "r.eg_00000000000000000000000000",
    "prefix not ASCII": "rég_00000000000000000000000000",
    "prefix with spaces": "  reg_00000000000000000000000000",
    "prefix too long": f"{'a' * 64}_00000000000000000000000000",
    "prefix empty": "_00000000000000000000000000",
    "prefix begins with an underscore": "_reg_00000000000000000000000000",
    "prefix ends with an underscore": "reg__00000000000000000000000000",
    "empty": "",
    "a separator alone": "_",
    "prefix alone": "reg",
    "suffix empty": "reg_",
    "suffix short": "reg_1234567890123456789012345",
    "suffix long": "reg_123456789012345678901234567",
    "suffix with a space": "reg_1234567890123456789012345 ",
    "suffix in upper case": "reg_0123456789ABCDEFGHJKMNPQRS",
    "suffix with hyphens": "reg_123456789-123456789-123456",
    "suffix of another alphabet": "reg_ooooooiiiiiiuuuuuuulllllll",
    "suffix ambiguous in Crockford's": "reg_i23456789ol23456789oi23456",
    "suffix with Crockford's hyphens": "reg_123456789-0123456789-0123456",
    "suffix too large": "reg_8zzzzzzzzzzzzzzzzzzzzzzzzz",
    "digits of another script": "reg_0123456789abcdefghjkmnpq٣٤",
    "a line break at the end": "reg_01h455vb4pex5vsknk084sn02q\n",
    "a zero byte": "reg_01h455vb4pex5vsknk084sn0\x002q",
    "half a surrogate pair": "reg_\ud800",
    "very long": f"reg_{'0' * 100_000}",
}

uuids = st.uuids(allow_nil=True).map(lambda uuid: uuid.bytes)
tenants = st.text(min_size=1, max_size=40).filter(str.isprintable)


@pytest.mark.parametrize(("suffix", "uuid"), VALID.items())
def test_the_specifications_valid_ids_are_read(suffix: str, uuid: str) -> None:
    """Source: TypeID specification, `valid.json`."""
    assert ids.registration_uuid(f"reg_{suffix}") == UUID(uuid).bytes


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID.keys())
def test_what_is_no_registration_id_is_none(text: str) -> None:
    """Source: TypeID specification, `invalid.json`, and what else a sender may try; no exception, whatever it is."""
    assert ids.registration_uuid(text) is None


@given(uuids, tenants, st.sampled_from(KINDS))
def test_a_derived_id_is_a_typeid_of_its_kind_that_keeps_time_and_version(registration: bytes, tenant: str, kind: str) -> None:
    """Customers sort by the time of their registration, and the UUID stays one of the version it was."""
    derived = TypeID.from_string(ids.derive(kind, tenant, registration))

    assert derived.prefix == kind
    assert derived.uuid_bytes[:6] == registration[:6]
    assert derived.uuid_bytes[6] >> 4 == registration[6] >> 4
    assert derived.uuid_bytes[8] >> 6 == 0b10


@given(uuids, tenants, st.sampled_from(KINDS))
def test_deriving_again_gives_the_same_id(registration: bytes, tenant: str, kind: str) -> None:
    """Work that is done again, after any rewind, gives the same customer and the same event."""
    assert ids.derive(kind, tenant, registration) == ids.derive(kind, tenant, bytes(bytearray(registration)))


@given(uuids, tenants)
def test_that_it_was_refused_is_another_fact_than_that_it_was_accepted(registration: bytes, tenant: str) -> None:
    """After a failover that lost the first outcome a registration may end otherwise: no consumer may take one for the other."""
    assert ids.derive(ids.EVENT, tenant, registration) != ids.derive(ids.EVENT, tenant, registration, ids.REJECTION)


def test_a_derived_id_never_changes_between_releases() -> None:
    """Another id for an old registration would be a second customer and a second event."""
    uuid = ids.registration_uuid(REGISTRATION)
    assert uuid is not None

    assert [ids.derive(kind, "tenant-1", uuid) for kind in KINDS] == [
        "cust_01h455vb4pf9zacyv5a24ezvda",
        "user_01h455vb4pfs4ba99a84j26rgr",
        "pers_01h455vb4pehmt5p97xd2d18c0",
        "evt_01h455vb4pfexbw5p4tntqzd9g",
    ]
    assert ids.derive(ids.EVENT, "tenant-1", uuid, ids.REJECTION) == "evt_01h455vb4pfvj9p5q1pemx6kpe"


@given(uuids, st.tuples(tenants, tenants).filter(lambda pair: pair[0] != pair[1]))
def test_tenants_never_share_an_id(registration: bytes, pair: tuple[str, str]) -> None:
    """Two tenants may use the same registration id; nothing that follows from it meets."""
    first, second = ({ids.derive(kind, tenant, registration).split("_")[1] for kind in KINDS} for tenant in pair)

    assert first.isdisjoint(second)
    assert len(first) == len(KINDS)


@given(tenants, st.integers(0, 2**48 - 1), st.binary(min_size=5, max_size=5))
def test_an_id_of_ours_tells_when_it_was_made_to_its_tenant_only(tenant: str, time_ms: int, random: bytes) -> None:
    """The tag binds the tenant: another one, or who does not have the secret, learns nothing."""
    uuid = ids.registration_uuid(ids.new_registration(tenant, SECRET, time_ms, random)) or b""

    assert ids.made_at_ms(uuid) == time_ms
    assert ids.is_ours(uuid, tenant, SECRET)
    assert not ids.is_ours(uuid, f"{tenant}x", SECRET)
    assert not ids.is_ours(uuid, tenant, SECRET[::-1])


@given(tenants, st.text(), st.text(min_size=1))
def test_a_key_gives_one_id_to_one_caller_of_one_tenant(tenant: str, subject: str, key: str) -> None:
    """A UUIDv8 without a time, that is ours; another tenant, caller or key, or one that ends elsewhere, has another id."""
    made = ids.keyed_registration(tenant, subject, key, SECRET)
    uuid = ids.registration_uuid(made) or b""
    others = [(f"{tenant}x", subject, key), (tenant, f"{subject}x", key), (tenant, subject, f"{key}x"), (tenant, subject + key, "")]

    assert made == ids.keyed_registration(tenant, subject, key, SECRET)
    assert ids.is_ours(uuid, tenant, SECRET)
    assert ids.made_at_ms(uuid) is None
    assert (UUID(bytes=uuid).version, UUID(bytes=uuid).variant) == (8, "specified in RFC 4122")
    assert made not in {ids.keyed_registration(*other, SECRET) for other in others}
    assert made[:22] == ids.keyed_registration(tenant, subject, key, SECRET[::-1])[:22]


@given(tenants, st.integers(0, 2**48 - 1), st.binary(min_size=5, max_size=5))
def test_an_id_of_ours_is_a_uuid_version_7(tenant: str, time_ms: int, random: bytes) -> None:
    """Source: RFC 9562, section 5.7."""
    uuid = UUID(bytes=ids.registration_uuid(ids.new_registration(tenant, SECRET, time_ms, random)))

    assert uuid.version == 7
    assert uuid.variant == "specified in RFC 4122"
    assert uuid.int >> 80 == time_ms


@given(st.integers(0, 15), st.integers(0, 255))
def test_no_bit_of_an_id_of_ours_can_be_changed(at: int, other: int) -> None:
    """A forged id, or one with another time, is not ours."""
    made = ids.new_registration("tenant-1", SECRET, 1_767_225_600_000, b"chanc")
    uuid = bytearray(ids.registration_uuid(made) or b"")
    if uuid[at] == other:
        return
    uuid[at] = other

    assert not ids.is_ours(bytes(uuid), "tenant-1", SECRET)


def test_ids_made_later_sort_later() -> None:
    """Registrations are ordered by time."""
    made = [ids.new_registration("t", SECRET, ms, b"\xff" * 5 if ms % 2 else bytes(5)) for ms in range(1_000, 1_020)]

    assert made == sorted(made)
