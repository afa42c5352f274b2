"""The key ring: what it seals it alone opens, in the place it was sealed for."""

from __future__ import annotations

import base64
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_oauth.crypto import KeyRing, key_id_of, key_ring, new_key
from mcp_oauth.exceptions import ConfigurationError, SecretUnreadable

OLD, NEW = new_key(), new_key()
PLACE = b"table.column|row|owner"


def test_sealed_value_opens_in_its_place() -> None:
    ring = KeyRing([NEW])

    assert ring.open(ring.seal(b"secret", PLACE), PLACE) == b"secret"


# No deadline: how busy the machine is says nothing about the ring.
@settings(deadline=None)
@given(plaintext=st.binary(max_size=200), place=st.binary(max_size=50))
def test_every_value_comes_back_as_it_went(plaintext: bytes, place: bytes) -> None:
    ring = KeyRing([OLD])

    assert ring.open(ring.seal(plaintext, place), place) == plaintext


def test_sealed_value_names_its_version_and_key() -> None:
    ring = KeyRing([NEW, OLD])

    version, key_id, box = ring.seal(b"secret", PLACE).split(".")

    assert version == "v1"
    assert key_id == ring.current_id == ring.key_ids[0]
    assert len(key_id) == 8
    assert len(base64.urlsafe_b64decode(box + "=" * (-len(box) % 4))) == 12 + len(b"secret") + 16


def test_sealing_twice_gives_different_texts() -> None:
    ring = KeyRing([NEW])

    assert len({ring.seal(b"secret", PLACE) for _ in range(200)}) == 200


def test_value_does_not_open_in_another_place() -> None:
    ring = KeyRing([NEW])

    with pytest.raises(SecretUnreadable, match=r"^A stored secret was altered, or belongs to another place\.$"):
        ring.open(ring.seal(b"secret", PLACE), PLACE + b"2")


def test_value_does_not_open_with_another_key() -> None:
    sealed = KeyRing([OLD]).seal(b"secret", PLACE)

    with pytest.raises(SecretUnreadable, match=f"^A stored secret was sealed with key {key_id_of(sealed)}, which"):
        KeyRing([NEW]).open(sealed, PLACE)


def test_value_does_not_open_under_another_keys_id() -> None:
    old, ring = KeyRing([OLD]), KeyRing([NEW, OLD])
    forged = old.seal(b"secret", PLACE).replace(old.current_id, ring.current_id)

    with pytest.raises(SecretUnreadable, match="altered"):
        ring.open(forged, PLACE)


def test_rotated_ring_opens_old_values_and_seals_with_the_newest_key() -> None:
    sealed = KeyRing([OLD]).seal(b"secret", PLACE)
    ring = KeyRing([NEW, OLD])

    assert ring.open(sealed, PLACE) == b"secret"
    assert key_id_of(ring.seal(b"secret", PLACE)) == KeyRing([NEW]).current_id != key_id_of(sealed)


@pytest.mark.requirement("T42")
@pytest.mark.parametrize("position", [12, 30, -1])
def test_altered_value_does_not_open(position: int) -> None:
    ring = KeyRing([NEW])
    head, _, text = ring.seal(b"secret", PLACE).rpartition(".")
    box = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    box[position] ^= 1

    with pytest.raises(SecretUnreadable, match="altered"):
        ring.open(f"{head}.{base64.urlsafe_b64encode(box).decode()}".rstrip("="), PLACE)


@pytest.mark.parametrize(
    "text", ["", "plain text", "v1", "v1.", "v1.abc.def", "v2.0123abcd.AAAA", "v1.0123abcd", "v1.ünïcode.AAAA"]
)
def test_text_of_another_form_is_unreadable(text: str) -> None:
    assert key_id_of(text) is None
    with pytest.raises(SecretUnreadable, match="not in the form"):
        KeyRing([NEW]).open(text, PLACE)


@pytest.mark.parametrize("box", ["", "A", "AAAA", "é", "AA AA", "A" * 36, "A" * 40 + "\n" * 4 + "A" * 4])
def test_damaged_box_is_unreadable(box: str) -> None:
    ring = KeyRing([NEW])

    with pytest.raises(SecretUnreadable, match="damaged"):
        ring.open(f"v1.{ring.current_id}.{box}", PLACE)


@settings(deadline=None)
@given(text=st.text(max_size=100))
def test_opening_anything_raises_nothing_else(text: str) -> None:
    ring = KeyRing([NEW])

    for sealed in (text, f"v1.{text}", f"v1.{ring.current_id}.{text}"):
        with pytest.raises(SecretUnreadable):
            ring.open(sealed, PLACE)


def test_passphrase_of_32_characters_is_a_key() -> None:
    ring = KeyRing(["correct horse battery staple, ok!"])

    assert ring.open(ring.seal(b"secret", PLACE), PLACE) == b"secret"


def test_both_alphabets_of_base64_are_the_same_key() -> None:
    material = bytes(range(224, 256))
    forms = [base64.b64encode(material).decode(), base64.urlsafe_b64encode(material).decode()]
    forms += [f" {forms[0]}\n", forms[1].rstrip("=")]

    assert len({KeyRing([form]).current_id for form in forms}) == 1


def test_key_listed_twice_counts_once() -> None:
    assert len(KeyRing([NEW, OLD, NEW]).key_ids) == 2


def test_empty_ring_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match=r"^ENCRYPTION_KEYS is empty"):
        KeyRing([])


def test_short_entry_is_refused_by_position_and_never_quoted() -> None:
    with pytest.raises(ConfigurationError) as caught:
        KeyRing([NEW, "hunter2"])

    assert str(caught.value) == "Entry 2 of ENCRYPTION_KEYS is not text of at least 32 characters."
    assert "hunter2" not in str(caught.value.as_json())


def test_new_keys_are_32_random_bytes() -> None:
    assert len(base64.urlsafe_b64decode(new_key())) == 32
    assert new_key() != new_key()


def test_ring_shows_and_gives_away_no_key() -> None:
    ring = KeyRing([NEW, OLD])

    assert repr(ring) == f"<KeyRing {ring.key_ids[0]}, {ring.key_ids[1]}>"
    for take in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            take(ring)


def test_key_ids_are_not_part_of_the_keys() -> None:
    material = base64.urlsafe_b64decode(NEW)

    assert bytes.fromhex(KeyRing([NEW]).current_id) not in material


def test_ring_follows_the_setting() -> None:
    with override_settings(MCP_OAUTH={"ENCRYPTION_KEYS": [OLD]}):
        first = key_ring()
        assert key_ring() is first
    with override_settings(MCP_OAUTH={"ENCRYPTION_KEYS": [NEW, OLD]}):
        assert key_ring().key_ids[1] == first.current_id
    with override_settings(MCP_OAUTH={"ENCRYPTION_KEYS": []}), pytest.raises(ConfigurationError):
        key_ring()


def test_threads_share_a_ring() -> None:
    ring = KeyRing([NEW])

    def trip(number: int) -> bool:
        text = str(number).encode() * 50
        return ring.open(ring.seal(text, text), text) == text

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(trip, range(2000)))
