"""Edit params.yaml by a command, without changing its comments, its other settings, and the layout of other lines."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path
from typing import Any

from tasks import configuration
from tasks.io import config_file
from tasks.io.system import files


@contextmanager
def edited_config(path: Path, start: Path | None = None) -> Iterator[Any]:
    """Yield the tree of params.yaml or a profile, or of the settings `start` instead, and write it at the end.

    A symbolic link is kept, and its target is edited; `start` replaces only the link. Line ends of the file are kept.

    Raises ValueError, and leaves the file as it was, if the tree is then no valid config.
    """
    from ruamel.yaml import YAML

    config_file.parse(start or path)  # its message is better than ruamel's if the file is no YAML
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)

    def written(tree: Any) -> str:
        text = io.StringIO()
        yaml.dump(tree, text)
        return text.getvalue()

    # Text that is added after the last line begins a line of its own.
    original = (start or path).read_text(encoding="utf-8").removesuffix("\n") + "\n"
    newline = "\r\n" if b"\r\n" in (start or path).read_bytes() else "\n"
    tree = yaml.load(original)
    before = written(tree)
    yield tree
    with files.atomic_path(path.resolve() if start in (None, path) else path) as edited:
        edited.write_text(_with_lines_of(original, before, written(tree)), encoding="utf-8", newline=newline)
        try:
            configuration.load(edited)
        except ValueError as error:  # it names the temporary file, which replaces this one only if it is valid
            raise ValueError(str(error).replace(str(edited), str(path))) from None


def _with_lines_of(original: str, before: str, after: str) -> str:
    """Return the text `after`, with the lines of `original` where it equals `before`, which has the content of `original` in another layout."""
    import yaml

    end = "# end\n"  # text that is added after all lines comes before this mark
    first, middle, last = ([*text.splitlines(keepends=True), end] for text in (original, before, after))
    of_first, of_last = (_places(middle, lines) for lines in (first, last))
    pieces = []
    for here, there in pairwise(sorted(of_first.keys() & of_last.keys())):
        edited = last[of_last[here] : of_last[there]]
        pieces += first[of_first[here] : of_first[there]] if edited == middle[here:there] else edited
    merged = "".join(pieces).removesuffix(end)
    try:
        return merged if yaml.safe_load(merged) == yaml.safe_load(after) else after
    except yaml.YAMLError:  # the merge is no valid YAML, as when a text follows the end mark
        return after


def _places(lines: list[str], others: list[str]) -> dict[int, int]:
    """Return the indices in `lines` outside all differences to `others`, each with its index there. An added text belongs to the line after it."""
    places: dict[int, int] = {}
    for kind, start, stop, other, _ in SequenceMatcher(None, lines, others, autojunk=False).get_opcodes():
        for number in range(max(stop - start, 1) if kind == "equal" else 1):
            places.setdefault(start + number, other + number)
    return places | {len(lines): len(others)}
