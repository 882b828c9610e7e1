"""Cache of answers, keyed by the content of the question."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.io.system import files


@dataclass(frozen=True)
class Answers:
    """A folder with one file for each question. A file is written by a rename, so it is never incomplete."""

    folder: Path

    def get(self, question: Any) -> Any | None:
        """Return the cached answer. Return None if there is none, if its file is damaged, or if the file holds another question."""
        place = self._place(question)
        try:
            record = json.loads(place.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        is_record = isinstance(record, dict) and record.get("question") == json.loads(_written(question))
        return record.get("answer") if is_record else None

    def keep(self, question: Any, answer: Any) -> None:
        """Store an answer; both arguments must be serialisable as JSON."""
        text = json.dumps({"question": question, "answer": answer}, ensure_ascii=False)
        files.write_atomically(self._place(question), text, concurrent=True)  # two stages may ask the same question

    def questions(self) -> Iterator[Any]:
        """Yield all questions that have an answer, in no order."""
        for place in self.folder.glob("*.json"):
            try:
                record = json.loads(place.read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):
                continue
            if isinstance(record, dict):
                yield record.get("question")

    def _place(self, question: Any) -> Path:
        return self.folder / f"{hashlib.sha256(_written(question).encode()).hexdigest()}.json"


def _written(question: Any) -> str:
    return json.dumps(question, sort_keys=True, ensure_ascii=False)
