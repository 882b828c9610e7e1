"""Archives and packed files are read member by member, and what is damaged in them is named."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
import zipfile

import pytest

from tasks.io.sources.record import Broken, Row, UnreadableError
from tests.io.sources import strangers
from tests.io.sources.test_formats import places, read


def test_an_archive_is_read_member_by_member(tmp_path):
    members = {
        "b.csv": strangers.delimited(), "a.jsonl": strangers.LINES, "../out.jsonl": strangers.LINES, "notes.md": b"# Notes",
        "inner.zip": strangers.zipped({"a.jsonl": strangers.LINES}), "empty.csv": b"",
    }  # fmt: skip
    records = read(tmp_path, "a.zip", strangers.zipped(members))
    assert [record.where for record in records if isinstance(record, Row)][::12] == ["b.csv line 2", "a.jsonl line 1"]
    assert places(record for record in records if isinstance(record, Broken)) == [
        ("../out.jsonl", "path out of the archive"), ("notes.md", "unreadable file"), ("inner.zip", "unreadable file"),
        ("empty.csv line 1", "empty file"),
    ]  # fmt: skip


def test_a_tar_archive_is_read_and_its_links_are_not_followed(tmp_path):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        info = tarfile.TarInfo("rows.jsonl")
        info.size = len(strangers.LINES)
        archive.addfile(info, io.BytesIO(strangers.LINES))
        link = tarfile.TarInfo("passwd.jsonl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    records = read(tmp_path, "a.tar.gz", data.getvalue())
    assert len(records) == 13
    assert places(records[-1:]) == [("passwd.jsonl", "a link")]


def tarred(*names, mode="w"):
    """An archive, and the places of its members' headers."""
    data, places = io.BytesIO(), []
    with tarfile.open(fileobj=data, mode=mode, format=tarfile.USTAR_FORMAT) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(strangers.LINES)
            places.append(archive.offset)
            archive.addfile(info, io.BytesIO(strangers.LINES))
        end = archive.offset
    return bytearray(data.getvalue()), [*places, end]


def rows_and_damage(records):
    rows = [record for record in records if isinstance(record, Row)]
    return len(rows), [(record.where, record.reason) for record in records if isinstance(record, Broken)]


def test_members_behind_a_damaged_header_or_a_cut_are_told_of(tmp_path):
    data, (_, second, end) = tarred("a.jsonl", "b.jsonl")
    whole = (24, [])
    assert rows_and_damage(read(tmp_path, "whole.tar", bytes(data))) == whole
    told = (12, [("after a.jsonl", "damaged file")])
    flipped = data.copy()
    flipped[second + 150] ^= 0xFF
    assert rows_and_damage(read(tmp_path, "flipped.tar", bytes(flipped))) == told
    assert rows_and_damage(read(tmp_path, "between.tar", bytes(data[:second]))) == told
    assert rows_and_damage(read(tmp_path, "end.tar", bytes(data[:end])))[1] == [("after b.jsonl", "damaged file")]
    rows, damage = rows_and_damage(read(tmp_path, "within.tar", bytes(data[: second + 600])))
    assert rows >= 12
    assert damage


def test_members_before_the_cut_of_a_packed_archive_are_read(tmp_path):
    noise = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(4000))  # does not shrink
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in {"a.jsonl": strangers.LINES, "noise.bin": noise}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    rows, damage = rows_and_damage(read(tmp_path, "cut.tar.gz", data.getvalue()[: len(data.getvalue()) // 2]))
    assert rows == 12
    assert damage[-1][1] == "damaged file"


@pytest.mark.parametrize(("pack", "ending"), [(bz2.compress, "bz2"), (lzma.compress, "xz")])
def test_streams_that_follow_each_other_are_read_and_a_damaged_one_is_told_of(tmp_path, pack, ending):
    first, second = pack(strangers.LINES), pack(strangers.LINES)
    assert rows_and_damage(read(tmp_path, f"two.jsonl.{ending}", first + second)) == (24, [])
    assert rows_and_damage(read(tmp_path, f"padded.jsonl.{ending}", first + bytes(8))) == (12, [])
    damaged = bytearray(second)
    damaged[0] ^= 0xFF
    rows, damage = rows_and_damage(read(tmp_path, f"damaged.jsonl.{ending}", first + bytes(damaged)))
    assert rows == 12
    assert [reason for _, reason in damage] == ["damaged file"]
    rows, damage = rows_and_damage(read(tmp_path, f"cut.jsonl.{ending}", first + second[: len(second) // 2]))
    assert rows >= 12
    assert damage[-1][1] == "damaged file"  # before it the line that was cut


def test_a_zip_of_a_later_version_is_one_refusal(tmp_path):
    data = bytearray(strangers.zipped({"a.jsonl": strangers.LINES}))
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 6] = 99  # the version that is needed to extract it
    with pytest.raises(UnreadableError, match="zip"):
        read(tmp_path, "a.zip", bytes(data))


def test_a_packed_workbook_and_a_packed_zip_are_read(tmp_path):
    assert len(read(tmp_path, "table.xlsx.gz", gzip.compress(strangers.FILES["table.xlsx"]))) == 12
    inner = gzip.compress(strangers.zipped({"a.jsonl": strangers.LINES}))
    assert len(read(tmp_path, "a.zip.gz", inner)) == 12


def test_a_damaged_member_leaves_the_others(tmp_path):
    data = bytearray(strangers.zipped({"a.jsonl": strangers.LINES, "b.jsonl": strangers.LINES}))
    data[60] ^= 0xFF
    records = read(tmp_path, "a.zip", bytes(data))
    assert sum(isinstance(record, Row) and record.where.startswith("b.jsonl") for record in records) == 12
    assert any(isinstance(record, Broken) and record.where.startswith("a.jsonl") for record in records)


def test_an_encrypted_member_is_named(tmp_path):
    data = bytearray(strangers.zipped({"a.jsonl": json.dumps({"a": 1})}))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start = archive.start_dir
    data[start + 8] |= 1
    assert places(read(tmp_path, "a.zip", bytes(data))) == [("a.jsonl", "encrypted")]


def test_attributes_that_macos_packs_beside_files_are_no_members(tmp_path):
    members = {"a.jsonl": strangers.LINES, "__MACOSX/._a.jsonl": b"\x00\x05\x16\x07", "._a.jsonl": b"\x00\x05\x16\x07"}
    records = read(tmp_path, "a.zip", strangers.zipped(members))
    assert len(records) == 12
    assert all(isinstance(record, Row) for record in records)
