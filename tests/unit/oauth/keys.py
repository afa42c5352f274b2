"""Private keys for the protocol tests, made once each because an RSA key takes its time."""

from __future__ import annotations

from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)


@cache
def new_key(kind: str) -> Any:
    """Return the key of a kind."""
    return {
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
        "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 - the one to be refused
        "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
        "Ed448": ed448.Ed448PrivateKey.generate,
    }[kind]()


@cache
def pem_of(kind: str, form: PrivateFormat = PrivateFormat.PKCS8, password: bytes = b"") -> str:
    """Return the key of a kind as PEM text."""
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return str(new_key(kind).private_bytes(Encoding.PEM, form, encryption).decode())


def public_pem(private_pem: str) -> str:
    """Return the public half of a key, which is all that a verifier has."""
    public = load_pem_private_key(private_pem.encode(), password=None).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
