import subprocess
import sys
from collections.abc import Callable
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


@pytest.mark.parametrize("concurrent", [False, True])
def test_what_a_killed_process_left_is_gone_after_the_next_write(tmp_path: Path, concurrent: bool) -> None:
    path = tmp_path / "a.json"
    files.sibling(path).write_text("a long half of")
    files.write_atomically(path, "{}", concurrent=concurrent)
    assert path.read_text() == "{}"
    assert list(tmp_path.iterdir()) == [path]


def test_processes_that_write_one_file_at_once_leave_one_of_their_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    writer = "import sys\nfrom pathlib import Path\nfrom tasks.io.system import files\n" + (
        "for _ in range(100):\n    files.write_atomically(Path(sys.argv[1]), sys.argv[2] * 1000, concurrent=True)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", writer, str(path), letter]) for letter in "abc"]
    texts = set()
    while any(process.poll() is None for process in processes):
        if path.exists():
            texts.add(path.read_text())
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert texts <= {letter * 1000 for letter in "abc"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("concurrent", [False, True])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path, concurrent: bool) -> None:
    names = [f"{'ä' * 124}{end}.jsonl" for end in ("a", "b")]
    for name in names:
        files.write_atomically(tmp_path / name, name, concurrent=concurrent)
    assert [(tmp_path / name).read_text(encoding="utf-8") for name in names] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert files.sibling(tmp_path / names[0]) != files.sibling(tmp_path / names[1])


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


@pytest.mark.parametrize("make", [Path.touch, lambda partial: partial.symlink_to("elsewhere")], ids=["file", "link"])
def test_no_file_or_link_takes_the_place_of_a_folder(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/mine.txt").touch()
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(IsADirectoryError), files.atomic_path(tmp_path / "results") as partial:
        make(partial)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere", "mine.txt", "results"]


def test_a_missing_path_names_what_is_called_nearly_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("questions.jsonl").touch()
    nothing = "there is no such file or folder."
    assert str(files.missing(Path("question.jsonl"))) == f"question.jsonl: {nothing} Did you mean questions.jsonl?"
    Path("rows.csv").symlink_to("/gone/rows.csv")
    assert str(files.missing(Path("rows.csv"))).startswith("rows.csv is a link to /gone/rows.csv, which is not there.")
    assert str(files.missing(Path("deep/rows.csv"))) == f"deep/rows.csv: {nothing} Name one as seen from {tmp_path}."
