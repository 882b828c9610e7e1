"""Chat with one model, with one that two others steer, or with two side by side:
`python -m tasks.engine.inference.chat MODEL [MODEL] [--steered-by EXPERT ANTIEXPERT --decoder DECODER [--alpha ALPHA]]`.
"""

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks import methods
from tasks.core.records import Message
from tasks.io.weights import models, places

if TYPE_CHECKING:  # its import takes seconds, which a name that no model has need not wait for
    from tasks.engine.inference import generation

MAX_NEW_TOKENS = 256


def main(
    names: list[str], steered_by: tuple[str, str] | None = None, decoder: str = "", alpha: float | None = None
) -> int:
    """Read a line and write each model's answer, until an empty line or the end of input.

    `steered_by` names an expert and its antiexpert, by which a decoder with such helpers steers the model.
    """
    for name in names:
        places.find(name)
    pairs = {name: _load(name) for name in names}
    steering = _steer(pairs[names[0]], steered_by, decoder, alpha) if steered_by else None
    sys.stdout.write("Type a message and press Enter. An empty line ends it; /new starts afresh.\n")
    conversations: dict[str, list[Message]] = {name: [] for name in names}
    while text := _read_line():
        if text == "/new":
            conversations = {name: [] for name in names}
            continue
        for name, (model, tokenizer) in pairs.items():
            answer = _reply(model, tokenizer, [*conversations[name], Message("user", text)], steering)
            conversations[name] += [Message("user", text), Message("assistant", answer)]
            sys.stdout.write(f"\n── {name} ──\n{answer}\n")
        sys.stdout.write("\n")
    return 0


def _steer(model: "generation.Pair", by: tuple[str, str], name: str, alpha: float | None) -> "generation.Steering":
    """Steer `model` by the difference between an expert and its antiexpert; an expert that is an adapter has that one as base."""
    from tasks.engine.inference import generation

    spec = methods.spec("decoders", name)
    expert, antiexpert = map(places.find, by)
    roles = {"expert": (expert, antiexpert), "antiexpert": (antiexpert, places.BASE)}
    helpers = [models.load(*roles[role]) for role in spec.helpers]
    config = spec.config.model_validate({} if alpha is None else {"alpha": alpha})
    return generation.steer(model, helpers, partial(methods.load("decoders", name).combine, config=config))


def _reply(model: Any, tokenizer: Any, conversation: list[Message], steering: "generation.Steering | None") -> str:
    from tasks.engine.inference import generation

    return generation.write(
        model, [conversation], tokenizer, max_new_tokens=MAX_NEW_TOKENS, batch_size=1, steering=steering
    )[0]


def _read_line() -> str:
    sys.stdout.write("> ")
    sys.stdout.flush()
    return sys.stdin.readline().strip()


def _load(name: str) -> "generation.Pair":
    """Return a model and its tokenizer."""
    folder = places.find(name)
    return models.load(folder, places.base_of(folder))


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ratchet chat")
    parser.add_argument("names", nargs="+")
    parser.add_argument("--steered-by", nargs=2)
    parser.add_argument("--decoder", default="")
    parser.add_argument("--alpha", type=float)
    return parser.parse_args(words)


if __name__ == "__main__":
    try:
        sys.exit(main(**vars(_arguments(sys.argv[1:]))))
    except ValueError as error:
        sys.exit(str(error))
