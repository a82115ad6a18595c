"""Signed checkpoints: Ed25519 (RFC 8032) over a link's number and hash, so that a cut or rewritten tail shows. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vitalgate.audit.chain import Tip

Record = dict[str, Any]
_DOMAIN = b"vitalgate audit checkpoint 1\0"


def _signed_bytes(n: int, digest: str) -> bytes:
    return _DOMAIN + n.to_bytes(8, "big") + bytes.fromhex(digest)


def raw_public(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes of a public key."""
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def key_id(key: Ed25519PublicKey) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the raw public key."""
    return hashlib.sha256(raw_public(key)).hexdigest()[:16]


def load_private(pem: bytes) -> Ed25519PrivateKey:
    """An Ed25519 private key from PEM.

    Raises
    ------
    ValueError
        When it is another kind of key, or none.
    """
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(
            f"the signing key is {type(key).__name__}, but Ed25519 is needed; make one with openssl genpkey"
        )
    return key


def load_public(pem: bytes) -> Ed25519PublicKey:
    """An Ed25519 public key from PEM (that of a private key file too).

    Raises
    ------
    ValueError
        When it is another kind of key, or none.
    """
    if b"PRIVATE KEY" in pem:
        return load_private(pem).public_key()
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"the public key is {type(key).__name__}, but Ed25519 is needed")
    return key


def sign(key: Ed25519PrivateKey, tip: Tip, when: str | None) -> Record:
    """The checkpoint record of a tip. Ed25519 is deterministic: signing again gives the same record."""
    public = key.public_key()
    return {
        "checkpoint": True,
        "n": tip.n,
        "hash": tip.hash,
        "when": when,
        "action": "audit.checkpoint",
        "signature": base64.b64encode(key.sign(_signed_bytes(tip.n, tip.hash))).decode(),
        "public_key": base64.b64encode(raw_public(public)).decode(),
        "key_id": key_id(public),
    }


def good_signature(record: Record, trusted: Ed25519PublicKey) -> bool:
    """Whether a checkpoint was signed by this key."""
    try:
        trusted.verify(base64.b64decode(record["signature"]), _signed_bytes(record["n"], record["hash"]))
    except (InvalidSignature, KeyError, TypeError, ValueError, OverflowError, binascii.Error):
        return False
    return True
