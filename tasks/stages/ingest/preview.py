"""Preview of what `ingest` reads from some sources, without writing anything: `python -m tasks.stages.ingest.preview JSON`.

JSON is a list of sources as in params.yaml; the output is one JSON object, which `ratchet init` shows.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

from pydantic import TypeAdapter

from tasks.core.records import Example, Refusal
from tasks.core.text.contamination import prompt_of
from tasks.io import sandbox
from tasks.stages.ingest.config import ExampleSource, Folder, Gym, Package
from tasks.stages.ingest.mining.candidates import mine_candidates
from tasks.stages.ingest.mining.verification import verify_candidates
from tasks.stages.ingest.reading.examples import python_modules, read_puzzles, read_rows
from tasks.stages.ingest.reading.sources import sample

SHOWN = 5
FUNCTIONS = 60
"""Functions of a package that are tried; each takes a run in the sandbox."""
SEED = 0


def main(arguments: list[str]) -> int:
    """Print the preview of the sources in the only argument."""
    sources = TypeAdapter(tuple[ExampleSource, ...]).validate_json(arguments[0])
    try:
        sys.stdout.write(json.dumps(preview(sources), ensure_ascii=False))
    except (ValueError, FileNotFoundError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def preview(sources: tuple[ExampleSource, ...]) -> dict[str, Any]:
    """Return the first kept and the first refused records, and the counts of both."""
    records = [record for source in sources for record in _records(source)]
    kept = [record for record in records if isinstance(record, Example)]
    refused = [record for record in records if isinstance(record, Refusal)]
    return {
        "kept": len(kept),
        "refused": dict(Counter(refusal.reason for refusal in refused).most_common()),
        "groups": len({example.group for example in kept}),
        "rows": [{"prompt": prompt_of(row), "response": row.response, "source": row.source} for row in kept[:SHOWN]],
        "refusals": [
            {"where": f"{refusal.source}, {refusal.where}", "reason": refusal.reason, "detail": refusal.detail}
            for refusal in refused[:SHOWN]
        ],
    }


def _records(source: ExampleSource) -> Iterator[Example | Refusal]:
    if isinstance(source, Package | Folder):
        candidates = sample(mine_candidates(python_modules(source)), FUNCTIONS, SEED)
        return verify_candidates(candidates, partial(sandbox.run, trusted=True))
    return read_puzzles(source, SEED) if isinstance(source, Gym) else read_rows(source, SEED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
