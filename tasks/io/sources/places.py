"""Remote files (https, S3, any protocol of fsspec), stored under their digest, so that equal settings give equal bytes."""

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from tasks.core.text.visible import without_passwords
from tasks.io.sources.record import first_line
from tasks.io.system import files

DOWNLOADS = Path(".ratchet/downloads")
BLOCK = 1 << 20
QUERY = re.compile(r"(://[^\s?#]*)[?#]\S*")
"""Matches the text after the path of an address, which may contain keys."""


def is_url(value: str) -> bool:
    """Return True if this names a remote place."""
    return "://" in value


def name_of(url: str) -> str:
    """Return the name of the file at a URL."""
    return PurePosixPath(unquote(urlsplit(url).path)).name or "download"


def fetched(url: str, sha256: str) -> Path:
    """Return the file at `url`, downloaded once. Raises ValueError if the download fails, or if it has another digest."""
    target = DOWNLOADS / sha256 / name_of(url)
    if not target.is_file():
        with files.atomic_path(target) as partial:
            digest = download(url, partial)
            if digest != sha256:
                raise ValueError(
                    f"{shown(url)}: its SHA-256 is {digest}, params.yaml asks for {sha256}. The file has changed; "
                    "look at it, and write the new digest if it is what you want."
                )
    return target


def download(url: str, path: Path) -> str:
    """Write the file at `url` to `path` and return its SHA-256. Raises ValueError if the download fails."""
    import fsspec

    digest = hashlib.sha256()
    try:
        source: Any
        with fsspec.open(url, "rb") as source, path.open("wb") as target:
            while block := source.read(BLOCK):
                digest.update(block)
                target.write(block)
    except ImportError as error:
        raise ValueError(f"{shown(url)}: {first_line(error)}. S3 needs the extra `s3`.") from None
    except Exception as error:  # each protocol of fsspec raises the errors of its library
        raise ValueError(
            f"{shown(url)}: it cannot be read: {_reason(error)}. Check address, network and rights."
        ) from None
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    """Return the reason why nothing could be read, without an error's message if it may contain an address with keys, such as that of a redirect."""
    if isinstance(error, FileNotFoundError):  # its message is only an address
        return "there is no such file, or you have no access to it"
    if status := getattr(error, "status", None):  # aiohttp's errors
        return f"the server answers {status}"
    return QUERY.sub(r"\1", without_passwords(first_line(error)))


def shown(url: str) -> str:
    """Return a URL without user, password and query, which may hold keys."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
