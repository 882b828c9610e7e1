import os
from pathlib import Path

import pytest

from tasks.io.system import files


@pytest.mark.parametrize("data", ["ä\n", b"\x00\xff"])
@pytest.mark.parametrize("concurrent", [False, True])
def test_a_file_is_written_with_its_folders_and_leaves_no_sibling(
    tmp_path: Path, data: str | bytes, concurrent: bool
) -> None:
    path = tmp_path / "deep" / "a.json"
    for _ in range(2):  # the second time over the first
        files.write_atomically(path, data, concurrent=concurrent)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert list(path.parent.iterdir()) == [path]


def test_processes_without_a_lock_write_to_siblings_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    written: list[str] = []
    monkeypatch.setattr(files, "_flush", lambda partial: written.append(partial.name))
    files.write_atomically(path, "x")
    files.write_atomically(path, "x", concurrent=True)
    assert written == ["a.json.partial", f"a.json.{os.getpid()}.partial"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def interrupted() -> None:
        with files.atomic_path(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_takes_the_place_of_an_older_one_and_of_what_a_killed_process_left(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for folder in (path, files.sibling(path)):
        folder.mkdir()
        (folder / "old").touch()
    with files.atomic_path(path) as partial:
        assert not partial.exists()
        partial.mkdir()
        (partial / "new").touch()
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_pointed_elsewhere_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    link = tmp_path / "champion"
    link.symlink_to("1")
    with files.atomic_path(link) as partial:
        partial.symlink_to("2")
    assert link.readlink() == Path("2")
    assert (tmp_path / "1").is_dir()
