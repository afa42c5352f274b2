"""Sealing of secrets at rest with a ring of keys: AES-256-GCM under a key id, bound to associated data."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import ConfigurationError, SecretUnreadable

__all__ = ["KeyRing", "key_id_of", "key_ring", "new_key"]

VERSION: Final = "v1"
KEY_BYTES: Final = 32
KEY_ID_CHARACTERS: Final = 8
ENTRY_CHARACTERS: Final = 32
# The nonce size of NIST SP 800-38D §8.2.2: random nonces stay safe for 2**32 values under one key.
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16


def new_key() -> str:
    """Return a fresh entry for ``ENCRYPTION_KEYS``: URL-safe base64 of 32 random bytes."""
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")


def key_id_of(sealed: str) -> str | None:
    """Return the id of the key that sealed a value, or ``None`` when the text is no sealed value."""
    version, _, rest = sealed.partition(".")
    key_id, dot, _ = rest.partition(".")
    well_formed = version == VERSION and dot and len(key_id) == KEY_ID_CHARACTERS and key_id.isascii()
    return key_id if well_formed and key_id.isalnum() else None


class KeyRing:
    """An ordered set of keys, newest first: the first seals, every one opens what it sealed.

    An entry is base64 of 32 random bytes (see ``new_key``) or any text of at least 32 characters.

    Raises:
        ConfigurationError: The ring is empty, or an entry is too short; the message never quotes one.
    """

    __slots__ = ("_ciphers", "current_id")

    def __init__(self, entries: Sequence[str]) -> None:
        self._ciphers: dict[str, AESGCM] = {}
        for position, entry in enumerate(entries, start=1):
            material = _key_material(entry, position)
            key_id = _derive(material, b"mcp_oauth v1 key id", KEY_ID_CHARACTERS // 2).hex()
            # Listing one key twice is harmless; the first place counts.
            self._ciphers.setdefault(key_id, AESGCM(_derive(material, b"mcp_oauth v1 AES-256-GCM", KEY_BYTES)))
        if not self._ciphers:
            raise ConfigurationError("ENCRYPTION_KEYS is empty, so no secret can be stored or read.")
        self.current_id: str = next(iter(self._ciphers))

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Return the ids of all keys, newest first; an id says nothing about its key."""
        return tuple(self._ciphers)

    def seal(self, plaintext: bytes, associated_data: bytes) -> str:
        """Return ``v1.<key id>.<URL-safe base64 of nonce, ciphertext and tag>`` under the newest key."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        box = nonce + self._ciphers[self.current_id].encrypt(nonce, plaintext, associated_data)
        return f"{VERSION}.{self.current_id}.{base64.urlsafe_b64encode(box).decode('ascii').rstrip('=')}"

    def open(self, sealed: str, associated_data: bytes) -> bytes:
        """Return the plaintext of a value that ``seal`` made for the same associated data.

        Raises:
            SecretUnreadable: The text is no sealed value, its key is not in the ring, or it was sealed for
                other associated data or altered.
        """
        key_id = key_id_of(sealed)
        if key_id is None:
            raise SecretUnreadable("A stored secret is not in the form this application writes.")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SecretUnreadable(f"A stored secret was sealed with key {key_id}, which is no longer configured.")
        box = _decode(sealed.rpartition(".")[2], alternative=b"-_")
        if box is None or len(box) < NONCE_BYTES + TAG_BYTES:
            raise SecretUnreadable("A stored secret is damaged.")
        try:
            return cipher.decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], associated_data)
        except InvalidTag as error:
            raise SecretUnreadable("A stored secret was altered, or belongs to another place.") from error

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(self._ciphers)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A KeyRing holds keys and is never pickled.")


def key_ring() -> KeyRing:
    """Return the ring of the current ``ENCRYPTION_KEYS`` setting.

    Raises:
        ConfigurationError: The setting holds no usable ring.
    """
    return _ring_of(tuple(settings.ENCRYPTION_KEYS))


@lru_cache(maxsize=8)
def _ring_of(entries: tuple[str, ...]) -> KeyRing:
    return KeyRing(entries)


def _key_material(entry: str, position: int) -> bytes:
    """Return the bytes of an entry, whichever of the two forms it has."""
    text = entry.strip() if isinstance(entry, str) else ""
    for alternative in (b"-_", b"+/"):
        decoded = _decode(text.rstrip("="), alternative=alternative)
        if decoded is not None and len(decoded) == KEY_BYTES:
            return decoded
    if len(text) < ENTRY_CHARACTERS:
        raise ConfigurationError(
            f"Entry {position} of ENCRYPTION_KEYS is not text of at least {ENTRY_CHARACTERS} characters.",
            next_step="Generate a key of 32 random bytes and put it first in ENCRYPTION_KEYS.",
        )
    return text.encode("utf-8", "surrogatepass")


def _derive(material: bytes, purpose: bytes, length: int) -> bytes:
    """Derive bytes for one purpose from an entry's key material (HKDF-SHA256, RFC 5869 §2)."""
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=purpose).derive(material)


def _decode(text: str, *, alternative: bytes) -> bytes | None:
    """Decode unpadded base64 strictly, or return ``None``."""
    try:
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=alternative, validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
