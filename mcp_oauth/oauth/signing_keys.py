"""Private keys that sign for a client: which ones are taken, and the algorithm that each signs with (RFC 7518 §3.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mcp_oauth.exceptions import ConfigurationError
from mcp_oauth.sentences import sentence

SMALLEST_RSA_BITS: Final = 2048

_PKCS8_LABEL: Final = "-----BEGIN PRIVATE KEY-----"
_CONVERT: Final = sentence("Convert the key with “openssl pkcs8 -topk8 -nocrypt” and enter the result.")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with the one JWS ``algorithm`` it is used for: ES256, RS256 or EdDSA."""

    private_key: EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey = field(repr=False)
    algorithm: str


def load_signing_key(pem: str) -> SigningKey:
    """Return the key in an unencrypted PKCS#8 PEM text: EC P-256, RSA of at least 2048 bits, or Ed25519.

    Raises: ConfigurationError for any other text or kind of key, quoting nothing of it.
    """
    if _PKCS8_LABEL not in pem:
        raise ConfigurationError(
            sentence("The private key is not an unencrypted PKCS#8 key in PEM form."), next_step=_CONVERT
        )
    try:
        # Replaced rather than refused: an encoding error would carry the whole text with it.
        key = load_pem_private_key(pem.encode("ascii", "replace"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(sentence("The private key cannot be read."), next_step=_CONVERT) from None
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return SigningKey(key, "ES256")
    if isinstance(key, RSAPrivateKey) and key.key_size >= SMALLEST_RSA_BITS:
        return SigningKey(key, "RS256")
    if isinstance(key, Ed25519PrivateKey):
        return SigningKey(key, "EdDSA")
    raise ConfigurationError(
        sentence(
            "The private key must be an EC key on P-256, an Ed25519 key or an RSA key of at least %(bits)s bits.",
            bits=SMALLEST_RSA_BITS,
        )
    )
