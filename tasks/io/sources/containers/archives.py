"""A file, or the members of a zip or tar archive. Nothing is unpacked to a path in an archive."""

import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from tasks.io.sources.containers.streams import SUFFIXES, Opened, decompressed
from tasks.io.sources.record import Broken, UnreadableError, first_line, shown_name

MAX_MEMBERS = 100_000
ENDINGS = (".tar", ".zip")
"""Suffixes of archives' names, without that of a compression."""
OPEN_DOCUMENT = b"application/vnd.oasis.opendocument.spreadsheet"


@dataclass(frozen=True)
class Entry:
    """A file on disk, or a member of an archive."""

    name: str
    """Its name, without the suffix of a compression."""
    size: int
    """Its stored size in bytes."""
    open_stored: Callable[[], BinaryIO]
    path: Path | None = None
    """Its path, if it is a file on disk."""
    member: str = ""
    """Its name in the archive."""
    is_packed: bool = False
    """True if the archive has compressed it. `open_stored` then returns more bytes than `size`."""

    def open(self) -> Opened:
        """Return a stream of its plain bytes."""
        return decompressed(self.open_stored(), self.size, is_packed=self.is_packed)

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """Yield a plain file with its bytes, for formats that need random access."""
        with self.open() as opened:
            if self.path is not None and not opened.compression:
                yield self.path
                return
            with tempfile.NamedTemporaryFile(prefix="ratchet-", suffix=PurePosixPath(self.name).suffix) as copy:
                _spool(opened, copy)
                yield Path(copy.name)


def file_entry(path: Path) -> Entry:
    """Return the entry of a file on disk."""
    return Entry(_plain_name(path.name), path.stat().st_size, lambda: path.open("rb"), path)


def entries(path: Path) -> Iterator[Entry | Broken]:
    """Yield the members of the archive at `path`, or the file itself. A member that cannot be read is `Broken`."""
    entry = file_entry(path)
    with entry.open() as opened:
        head = opened.stream.peek(512)[:512]
    if is_zip(head):
        with entry.on_disk() as plain:
            if is_office(plain):
                yield entry
            else:
                yield from _zip_members(plain)
    elif is_tar(head):
        with entry.open() as opened, tempfile.NamedTemporaryFile(prefix="ratchet-", suffix=".tar") as copy:
            if opened.compression:
                _copy(opened, copy)  # members before the damage are read
            yield from _tar_members(Path(copy.name) if opened.compression else path, opened.damage)
    else:
        yield entry


def is_zip(head: bytes) -> bool:
    """Return True if these are the first bytes of a zip archive."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def is_tar(head: bytes) -> bool:
    """Return True if these are the first 512 bytes of a tar archive."""
    return head[257:262] == b"ustar"


def is_office(path: Path) -> bool:
    """Return True if the zip archive at `path` is an office document."""
    return bool(office_kind(path))


def office_kind(file: Path | IO[bytes]) -> str:
    """Return `excel` or `word` if a zip archive is such a document, else an empty text."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
            kinds = (("excel", ("xl/workbook.xml", "xl/workbook.bin")), ("word", ("word/document.xml",)))
            kind = next((kind for kind, marks in kinds if names.intersection(marks)), "")
            return "excel" if not kind and "mimetype" in names and _is_open_document(archive) else kind
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        RuntimeError,
    ):  # the last error is raised for a version that zipfile does not support
        return ""


def _is_open_document(archive: zipfile.ZipFile) -> bool:
    """Return True if an archive declares itself an OpenDocument spreadsheet. For a damaged one it is False, and its members are reported one by one."""
    try:
        with archive.open("mimetype") as member:
            return member.read(len(OPEN_DOCUMENT)) == OPEN_DOCUMENT
    except (zipfile.BadZipFile, RuntimeError, EOFError, zlib.error):
        return False


def _zip_members(path: Path) -> Iterator[Entry | Broken]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        raise UnreadableError(f"{path}: this zip archive cannot be read: {first_line(error)}") from None
    with archive:
        members = [info for info in archive.infolist() if not info.is_dir() and not _is_of_macos(info.filename)]
        yield from _beyond_limit(len(members))
        for info in members[:MAX_MEMBERS]:
            is_link = stat.S_ISLNK(info.external_attr >> 16)
            if problem := _problem(info.filename, is_link=is_link, is_encrypted=bool(info.flag_bits & 1)):
                yield problem
                continue
            name = info.filename

            def open_member(info: zipfile.ZipInfo = info) -> BinaryIO:
                return _opened_member(archive, info)

            member = shown_name(name)
            yield Entry(_plain_name(name), max(info.compress_size, 1), open_member, None, member, is_packed=True)


def _opened_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    """Open a member. Raises UnreadableError if its bytes are damaged, encrypted, or compressed by a method that zipfile does not support."""
    try:
        return cast(BinaryIO, archive.open(info))
    except (zipfile.BadZipFile, RuntimeError, OSError) as error:
        raise UnreadableError(f"{info.filename}: {first_line(error)}") from None


def _tar_members(path: Path, damage: str) -> Iterator[Entry | Broken]:
    """Yield the members of a tar archive, and `Broken` for damaged parts. `damage` describes the loss in its compression."""
    try:
        archive = tarfile.open(path, "r:")  # noqa: SIM115
    except (tarfile.TarError, OSError) as error:
        raise UnreadableError(f"{path}: this tar archive cannot be read: {damage or first_line(error)}") from None
    with archive, path.open("rb") as file:
        members: list[tarfile.TarInfo] = []
        try:
            while (info := archive.next()) is not None:
                members += [] if info.isdir() or _is_of_macos(info.name) else [info]
        except (tarfile.TarError, OSError) as error:
            damage = damage or first_line(error)
        file.seek(archive.offset)
        if not damage and file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            damage = "the archive has no end mark here: a header is damaged, or the archive was cut"
        yield from _beyond_limit(len(members))
        for info in members[:MAX_MEMBERS]:
            if problem := _problem(info.name, is_link=not info.isfile()):
                yield problem
                continue

            def open_member(info: tarfile.TarInfo = info) -> BinaryIO:
                return cast(BinaryIO, archive.extractfile(info))

            yield Entry(_plain_name(info.name), max(info.size, 1), open_member, None, shown_name(info.name))
        if damage:
            last = f"after {shown_name(members[-1].name)}" if members else "the archive"
            yield Broken(last, "damaged file", damage, "")


def _problem(name: str, *, is_link: bool, is_encrypted: bool = False) -> Broken | None:
    """Return the reason why a member is not read; empty if it is read."""
    name = shown_name(name)
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        return Broken(name, "path out of the archive", "a member's name must stay below the archive", "")
    if is_link:
        return Broken(name, "a link", "links and devices in archives are not followed", "")
    if is_encrypted:
        return Broken(name, "encrypted", "decrypt the archive and add it again", "")
    return None


def _is_of_macos(name: str) -> bool:
    """Return True for a file with attributes of another file, which macOS adds to archives and which holds no data."""
    path = PurePosixPath(name)
    return "__MACOSX" in path.parts or path.name.startswith("._")


def _beyond_limit(num_members: int) -> Iterator[Broken]:
    if num_members > MAX_MEMBERS:
        detail = f"it has {num_members:,} members; the first {MAX_MEMBERS:,} are read"
        yield Broken(f"members from {MAX_MEMBERS + 1}", "too many members", detail, "")


def _plain_name(name: str) -> str:
    """Return the name without the suffix of a compression."""
    name = shown_name(name)
    lowered = name.lower()
    if lowered.endswith(".tgz"):
        return f"{name[:-4]}.tar"
    suffix = next((suffix for suffix in SUFFIXES if lowered.endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def _spool(opened: Opened, copy: IO[bytes]) -> None:
    _copy(opened, copy)
    if opened.damage:
        raise UnreadableError(opened.damage)


def _copy(opened: Opened, copy: IO[bytes]) -> None:
    while data := opened.stream.read(1 << 20):
        copy.write(data)
    copy.flush()
