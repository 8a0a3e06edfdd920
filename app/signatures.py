"""Ed25519 keys and signatures of reference files: made, written, read and checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from app.problems import MalformedRequest

DOMAIN = b"cellgraft reference file 1\n"
"""Before what is signed, so that a signature made for anything else is none here."""


@dataclass(frozen=True)
class Signature:
    """All as hexadecimal digits."""

    public_key: str
    signature: str


def make_keys(file: Path) -> Path:
    """Write a new private key, readable by its owner alone, and beside it FILE.pub, its path.

    Raises:
        FileExistsError: one of them is there; a key is never overwritten.
    """
    key = Ed25519PrivateKey.generate()
    public = file.with_name(f"{file.name}.pub")
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write_new(file, private, 0o600)
    told = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write_new(public, told, 0o644)
    return public


def sign(text: bytes, key_file: Path) -> Signature:
    """Raises MalformedRequest where the file holds no private Ed25519 key."""
    try:
        key = serialization.load_pem_private_key(_read(key_file), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(key_file, "private") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(key_file, "private")
    return Signature(_hex(key.public_key()), key.sign(DOMAIN + text).hex())


def read_public_key(key_file: Path) -> str:
    """As hexadecimal digits. Raises MalformedRequest where the file holds no such key."""
    try:
        key = serialization.load_pem_public_key(_read(key_file))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(key_file, "public") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(key_file, "public")
    return _hex(key)


def is_signed_by(text: bytes, signature: Signature) -> bool:
    """Whether the signature is of this text by the key that it names."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.public_key))
        key.verify(bytes.fromhex(signature.signature), DOMAIN + text)
    except (ValueError, InvalidSignature):
        return False
    return True


def _hex(key: Ed25519PublicKey) -> str:
    return key.public_bytes_raw().hex()


def _write_new(file: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as opened:
        opened.write(content)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise MalformedRequest(
            f"The key file {file} cannot be read: {error.strerror}.",
            fix="Name a file that `cellgraft references keygen` wrote.",
        ) from error


def _no_key(file: Path, kind: str) -> MalformedRequest:
    return MalformedRequest(
        f"{file} holds no {kind} Ed25519 key in PEM.",
        fix="Make keys with `cellgraft references keygen FILE`: FILE is private, FILE.pub public.",
    )
