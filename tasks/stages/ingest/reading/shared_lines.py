"""Remove from files the lines that they share: menus, notices, page headers. Files are streamed twice."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

from tasks.io.sources.containers.streams import SUFFIXES

Files = Callable[[], Iterable[tuple[PurePosixPath, str]]]
"""Returns an iterable over the paths and texts of all files, which starts at the first one at each call."""
MARKUP = frozenset({".md", ".markdown", ".rst", ".adoc", ".org", ".tex", ".ipynb"})
"""Suffixes of files whose authors repeat lines on purpose: headings, fences, environments, imports. These files are left unchanged."""
BLOCK = 250
"""Number of files of a folder whose lines are counted together."""


class SharedLines:
    """The lines that occur in more than half of the files below a folder, for each folder.

    Every folder is counted, because a manual has shared lines of its own besides those of the whole collection. A smaller share over all
    files would find them too, but would also remove code and headings. Fewer than three files share nothing, and lines without a letter are
    never shared.
    """

    def __init__(self, files: Files) -> None:
        candidates, num_files = _candidates(_laid_out(files()))
        counts: defaultdict[PurePosixPath, Counter[str]] = defaultdict(Counter)
        for path, text in _laid_out(files()) if any(candidates.values()) else ():
            lines = _lines(text)
            for folder in path.parents:
                counts[folder].update(lines & candidates[folder])
        self._shared = {
            folder: {line for line, number in counts[folder].items() if number > max(2, num_files[folder] // 2)}
            for folder in num_files
        }

    def remove(self, path: PurePosixPath, text: str) -> str:
        """Return the text of a file without the shared lines."""
        folders = () if _is_markup(path) else path.parents
        shared = set().union(*(self._shared[folder] for folder in folders))
        return "\n".join(line for line in text.splitlines() if line.strip() not in shared)


def _is_markup(path: PurePosixPath) -> bool:
    """Return True for markup, compressed or not; Sphinx names its sources `a.rst.txt`."""
    while path.suffix.lower() in (*SUFFIXES, ".txt"):
        path = path.with_suffix("")
    return path.suffix.lower() in MARKUP


def _laid_out(files: Iterable[tuple[PurePosixPath, str]]) -> Iterator[tuple[PurePosixPath, str]]:
    """Yield the files that are not markup."""
    return ((path, text) for path, text in files if not _is_markup(path))


def _candidates(
    files: Iterable[tuple[PurePosixPath, str]],
) -> tuple[defaultdict[PurePosixPath, set[str]], Counter[PurePosixPath]]:
    """Return, for each folder, the lines that may be shared, and the number of files.

    A line that is in more than half of all files is in more than half of the files of at least one block.
    """
    candidates: defaultdict[PurePosixPath, set[str]] = defaultdict(set)
    num_files, in_block = Counter[PurePosixPath](), Counter[PurePosixPath]()
    counts: defaultdict[PurePosixPath, Counter[str]] = defaultdict(Counter)

    def close(folder: PurePosixPath) -> None:
        number = in_block.pop(folder)
        candidates[folder] |= {line for line, count in counts.pop(folder).items() if count > number / 2}

    for path, text in files:
        lines, folders = _lines(text), set(path.parents)
        for folder in counts.keys() - folders:  # files are sorted by folder, so this folder rarely appears again
            close(folder)
        for folder in folders:
            counts[folder].update(lines)
            num_files[folder] += 1
            in_block[folder] += 1
            if in_block[folder] == BLOCK:
                close(folder)
    for folder in list(counts):
        close(folder)
    return candidates, num_files


def _lines(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines() if any(map(str.isalpha, line))}
