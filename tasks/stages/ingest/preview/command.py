"""Preview what `ingest` reads, without writing anything: `python -m tasks.stages.ingest.preview.command [LIMITS] < JSON`.

JSON has the sources of `examples` and of `texts` as in params.yaml, LIMITS are `max_prompt_chars`, `max_response_chars` and `corpora.piece_chars`. The
output is one JSON object, which `ratchet init` shows.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tasks.stages.ingest.config import CorpusSource, ExampleSource
from tasks.stages.ingest.preview import examples, texts
from tasks.stages.ingest.preview.examples import preview
from tasks.stages.ingest.preview.texts import preview_texts

LIMITS = (*examples.LIMITS, texts.PIECE_CHARS)


@dataclass(frozen=True)
class Sources:
    """The sources of a user's own data."""

    examples: tuple[ExampleSource, ...]
    texts: tuple[CorpusSource, ...]


def main() -> int:
    """Print the preview of the sources in stdin; return the exit code."""
    try:
        limits = [int(limit) for limit in sys.argv[1:]] or LIMITS
        sys.stdout.write(json.dumps(previewed(sys.stdin.read(), limits), ensure_ascii=False))
    except ValidationError as error:
        sys.stderr.write("; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors()) + "\n")
        return 1
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def previewed(sources: str, limits: Sequence[int] = LIMITS) -> dict[str, Any]:
    """Return the preview of sources in JSON. Raises ValidationError if they are not as in params.yaml."""
    given = TypeAdapter(Sources).validate_json(sources)
    *sides, piece_chars = limits
    return preview(given.examples, sides) | {"texts": preview_texts(given.texts, piece_chars)}


if __name__ == "__main__":
    sys.exit(main())
