"""Keys and signatures: of the whole folder by OpenSSF's model-signing, and of the provenance as a DSSE envelope, both by one key.

Keys are of ECDSA on P-256, whose signatures are drawn anew each time: of all that is evidence they alone do not repeat.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.execution.workspace import SCRATCH
from flows.registry.evidence import layout
from tasks.core import environment
from tasks.io.system import files

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

KEY = SCRATCH / "keys/evidence.pem"
"""The private key of this workspace, which nobody but its owner can read, and which neither git nor DVC carries."""
TRUSTED = Path("data/signing_keys.pem")
"""The public keys of those who sign for this workspace, which git carries."""
PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
INSTALL = "pip install 'ratchet-llm[evidence]' -c constraints.txt"


def check_installed() -> None:
    """Raise ValueError with the command that installs it if model-signing is missing."""
    missing = [name for name in ("model_signing", "securesystemslib", "OpenSSL") if find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} is not installed, so nothing can be signed or checked:\n    {INSTALL}")


def private_key() -> Path:
    """Return the file of the private key, made on first use. Raises ValueError if others may read it, or if it is missing where chosen."""
    chosen = os.environ.get(environment.SIGNING_KEY)
    path = Path(chosen) if chosen else KEY
    if not path.is_file():
        if chosen:
            raise ValueError(
                f"{environment.SIGNING_KEY} names {path}, and there is no such file. Unset it, or put the key there."
            )
        _make(path)
    if path.stat().st_mode & 0o077:
        raise ValueError(f"{path} is a private key that others may read:\n    chmod 600 {path}")
    return path


def _make(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with files.atomic_path(path) as partial:  # half a key on a full disk would be taken for one
        partial.touch(mode=0o600, exist_ok=False)
        partial.write_bytes(pem)


def public_key(private: Path) -> str:
    """Return the public key of a private one, as PEM. Raises ValueError if the file holds none that can sign."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private.read_bytes(), None)
    except (ValueError, TypeError):
        raise ValueError(f"{private} holds no private key as PEM without a password.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(
            f"{private} is no key of ECDSA, which model-signing needs:\n    openssl ecparam -name prime256v1 -genkey -noout"
        )
    return _as_pem(key.public_key())


def _as_pem(key: "PublicKeyTypes") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def trust(public: str) -> None:
    """Add a public key to those of the workspace, if it is not among them."""
    known = TRUSTED.read_text(encoding="utf-8").rstrip() if TRUSTED.is_file() else ""
    if not PEM.search(known) or public not in trusted():
        files.write_atomically(TRUSTED, "\n".join(filter(None, (known, public))))


def trusted(path: Path = TRUSTED) -> list[str]:
    """Return the public keys in a file, as `public_key` writes them. Raises ValueError if it is missing, or holds none or one that is damaged.

    A signature names its key by the hash of that text, and a key that went through a mail or an editor has other white space.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    keys = PEM.findall(path.read_text(encoding="utf-8")) if path.is_file() else []
    if not keys:
        raise ValueError(
            f"{path} is missing or holds no public key, so no signature can be checked. The signer has it, in git."
        )
    try:
        return [_as_pem(load_pem_public_key(key.encode())) for key in keys]
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds a public key that is damaged or of an unknown kind. Remove it.") from None


def fingerprint(public: str) -> str:
    """Return the hash by which a signature names its key."""
    return hashlib.sha256(public.encode()).hexdigest()


def sign_folder(folder: Path, private: Path) -> None:
    """Write the signature of all files in a folder into it."""
    from model_signing import hashing, signing

    signature = folder / layout.SIGNATURE
    config = hashing.Config().set_ignored_paths(paths=[Path(layout.SIGNATURE)], ignore_git_paths=False)
    signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(config).sign(folder, signature)


def folder_problem(folder: Path, keys: Sequence[str]) -> str:
    """Return why the signature of a folder is not valid under any of these keys; empty if it is."""
    from cryptography.exceptions import InvalidSignature
    from model_signing import hashing, verifying

    signature = folder / layout.SIGNATURE
    if not signature.is_file():
        return f"{layout.SIGNATURE} is missing: nothing here is signed"
    try:
        material = layout.read_json(signature)["verificationMaterial"]
        if "publicKey" not in material:
            return f"{layout.SIGNATURE} is without a key: `model_signing verify sigstore` checks it with the identity of its signer"
        hint = material["publicKey"]["hint"]
        public = next((key for key in keys if fingerprint(key) == hint), None)
        if public is None:
            return f"{layout.SIGNATURE} was made with key {str(hint)[:12]}, which is not a trusted one"
        config = hashing.Config().set_ignored_paths(paths=[Path(layout.SIGNATURE)], ignore_git_paths=False)
        with tempfile.NamedTemporaryFile("w", suffix=".pub") as file:
            file.write(public)
            file.flush()
            verifier = verifying.Config().use_elliptic_key_verifier(public_key=file.name)
            verifier.set_hashing_config(config).verify(folder, signature)
    except InvalidSignature:
        return f"{layout.SIGNATURE} is not the signature of its own contents"
    except (ValueError, KeyError, TypeError) as error:
        return f"{layout.SIGNATURE}: {error}. `ratchet evidence MODEL` writes the evidence of your own models again; for others, ask who signed it"
    return ""


def envelope(payload: bytes, payload_type: str, private: Path) -> dict[str, Any]:
    """Return a payload in a signed envelope: https://github.com/secure-systems-lab/dsse."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    signed = Envelope(payload, payload_type, {})
    signed.sign(CryptoSigner(load_pem_private_key(private.read_bytes(), None)))
    return dict(signed.to_dict())


def opened(record: dict[str, Any], keys: Sequence[str]) -> bytes:
    """Return the payload of an envelope. Raises ValueError unless one of these keys signed it."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError, VerificationError
    from securesystemslib.signer import SSlibKey

    try:
        signed = Envelope.from_dict(record)
        public = [SSlibKey.from_crypto(load_pem_public_key(key.encode())) for key in keys]
        signed.verify(public, 1)
    except (KeyError, TypeError, ValueError, FormatError, VerificationError):
        raise ValueError("it is not an envelope signed by a trusted key") from None
    return bytes(signed.payload)
