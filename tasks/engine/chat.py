"""Talk to one model, or to two side by side: `python -m tasks.engine.chat MODEL [MODEL]`."""

import sys
from pathlib import Path
from typing import Any

from tasks.core.records import Message
from tasks.engine import generation
from tasks.io import checkpoints

BASE = Path("models/base")
MAX_NEW_TOKENS = 256


def main(names: list[str]) -> int:
    """Read a line, write what each model answers; an empty line or end of input ends it."""
    models = {name: checkpoints.load(_find(name), BASE) for name in names}
    sys.stdout.write("Type a message and press Enter. An empty line ends it; /new starts afresh.\n")
    talks: dict[str, list[Message]] = {name: [] for name in names}
    while text := _ask():
        if text == "/new":
            talks = {name: [] for name in names}
            continue
        for name, (model, tokenizer) in models.items():
            answer = _reply(model, tokenizer, [*talks[name], Message("user", text)])
            talks[name] += [Message("user", text), Message("assistant", answer)]
            sys.stdout.write(f"\n── {name} ──\n{answer}\n")
        sys.stdout.write("\n")
    return 0


def _reply(model: Any, tokenizer: Any, talk: list[Message]) -> str:
    return generation.greedy(model, [talk], tokenizer, max_new_tokens=MAX_NEW_TOKENS, batch_size=1)[0]


def _ask() -> str:
    sys.stdout.write("> ")
    sys.stdout.flush()
    return sys.stdin.readline().strip()


def _find(name: str) -> Path:
    """The folder of a model: a path, `base`, or a round. Raises ValueError naming what there is."""
    places = [Path(name), Path("models") / name, Path("models/tuned") / name]
    found = next(
        (place for place in places if (place / checkpoints.CARD).is_file() or (place / "config.json").is_file()), None
    )
    if found is None:
        there = [path.parent for path in sorted(Path("models").glob(f"**/{checkpoints.CARD}"))]
        known = ", ".join(str(path.relative_to("models")) for path in there) or "none yet; `ratchet run` makes them"
        raise ValueError(f"There is no model {name!r}. There are: {known}.")
    return found


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ValueError as error:
        sys.exit(str(error))
