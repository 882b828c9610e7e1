"""Remove from files the lines that they share: menus, notices, page headers. Files are read one after the other, twice."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

from tasks.io.sources.containers.streams import SUFFIXES

Files = Callable[[], Iterable[tuple[PurePosixPath, str]]]
"""Returns the paths of files and their texts, from the first one on."""
MARKUP = frozenset({".md", ".markdown", ".rst", ".adoc", ".org", ".tex", ".ipynb"})
"""Endings of files whose authors repeat lines on purpose: headings, fences, environments, imports. They share nothing."""
BLOCK = 250
"""Files of a folder whose lines are counted at a time."""


class SharedLines:
    """The lines that more than half of the files below a folder hold, for each folder.

    A manual has its own beside those of the whole collection, so every folder counts; a smaller share of all files would find them
    too, but would also remove code and headings. Fewer than three files share nothing, and a line without a letter is none of them.
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
        """Return the text of a file without them."""
        folders = () if _is_markup(path) else path.parents
        shared = set().union(*(self._shared[folder] for folder in folders))
        return "\n".join(line for line in text.splitlines() if line.strip() not in shared)


def _is_markup(path: PurePosixPath) -> bool:
    """Return True for markup, packed or not; Sphinx names its sources `a.rst.txt`."""
    while path.suffix.lower() in (*SUFFIXES, ".txt"):
        path = path.with_suffix("")
    return path.suffix.lower() in MARKUP


def _laid_out(files: Iterable[tuple[PurePosixPath, str]]) -> Iterator[tuple[PurePosixPath, str]]:
    """Yield the files that are no markup."""
    return ((path, text) for path, text in files if not _is_markup(path))


def _candidates(
    files: Iterable[tuple[PurePosixPath, str]],
) -> tuple[defaultdict[PurePosixPath, set[str]], Counter[PurePosixPath]]:
    """Return the lines that may be shared, and the number of files, of each folder.

    A line that more than half of all files hold is in more than half of those of some block.
    """
    candidates: defaultdict[PurePosixPath, set[str]] = defaultdict(set)
    num_files, in_block = Counter[PurePosixPath](), Counter[PurePosixPath]()
    counts: defaultdict[PurePosixPath, Counter[str]] = defaultdict(Counter)

    def close(folder: PurePosixPath) -> None:
        number = in_block.pop(folder)
        candidates[folder] |= {line for line, count in counts.pop(folder).items() if count > number / 2}

    for path, text in files:
        lines, folders = _lines(text), set(path.parents)
        for folder in counts.keys() - folders:  # files come by folder, so it rarely comes again
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
