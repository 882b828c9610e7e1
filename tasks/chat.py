"""Chat with one model, with a model that two others steer, with a bank and a router, or with two models side by side:
`python -m tasks.chat MODEL [MODEL] [--router ROUTER] [--steered-by EXPERT ANTIEXPERT --decoder DECODER [--alpha ALPHA]]`.
"""

import argparse
import contextlib
import io
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks import methods
from tasks.core.records import Message
from tasks.core.text.visible import escaped
from tasks.core.text.writing import Answer, call
from tasks.forkserver import imports
from tasks.io.runs import tracking
from tasks.io.weights import checkpoints, models, places

with contextlib.suppress(ImportError):  # some builds of Python lack it
    import readline  # noqa: F401 - gives `input` the arrow keys, the earlier lines, and lines of more than 4,095 bytes

if TYPE_CHECKING:  # the import takes seconds, and an unknown model name must be reported at once
    from tasks.engine.inference.steering import Pair, Steering

MAX_NEW_TOKENS = 256
Speaker = Callable[[list[Message]], tuple[str, Any, Any]]
"""The conversation so far → the name of the model that answers, the model, and its tokenizer."""


def main(
    names: list[str],
    steered_by: tuple[str, str] | None = None,
    decoder: str = "",
    alpha: float | None = None,
    router: str = "nearest",
) -> int:
    """Read lines and write each model's answer, until an empty line or the end of input.

    `steered_by` names an expert and its antiexpert, the helpers by which the decoder steers the model. `router` chooses the adapter of a bank
    for each message.
    """
    for name in names:
        places.find(name)
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)  # for bytes and characters that the encoding of the terminal lacks
    with imports.of_models():
        from tasks.engine.inference import generation  # noqa: F401 - what writes answers
    traces = tracking.traces("chat")
    steering = None
    if steered_by:
        (name,), pair = names, _load(names[0])
        speakers: dict[str, Speaker] = {name: lambda _: (name, *pair)}
        steering = _steer(pair, steered_by, decoder, alpha)
    else:
        speakers = {name: _speaker(name, router) for name in names}
    sys.stdout.write("Type a message and press Enter. An empty line ends it; /new starts afresh.\n")
    conversations: dict[str, list[Message]] = {name: [] for name in names}
    try:
        while text := _read_line():
            if text == "/new":
                conversations = {name: [] for name in names}
                continue
            try:
                for name, speaker in speakers.items():
                    asked = [*conversations[name], Message("user", text)]
                    conversations[name] = _answered(asked, speaker, steering, traces)
            except KeyboardInterrupt:
                sys.stdout.write("\nThe answer was stopped and is not kept. Press Ctrl-C again to end.\n")
            sys.stdout.write("\n")
    finally:
        if traces:
            traces.end()
    return 0


def _answered(
    asked: list[Message], speaker: Speaker, steering: "Steering | None", traces: tracking.Traces | None
) -> list[Message]:
    """Write the answer to a conversation, and return the conversation with the answer. The oldest turns are dropped if the context is full."""
    label, model, tokenizer = speaker(asked)
    sys.stdout.write(f"\n── {label} ──\n")
    talk = _fitting(asked, _readers(model, tokenizer, steering))
    if not talk:
        sys.stdout.write("This message is longer than the context of the model. Send a shorter one.\n")
        return asked[:-1]
    if left_out := len(asked) - len(talk):
        sys.stdout.write(f"(The context of the model does not hold all: the first {left_out} messages are left out.)\n")
    answer = _reply(model, tokenizer, talk, steering)
    sys.stdout.write(f"{escaped(answer.text)}\n")
    if traces:
        traces.record(call(label, talk, answer))
    return [*talk, Message("assistant", answer.text)]


def _readers(model: Any, tokenizer: Any, steering: "Steering | None") -> Sequence["Pair"]:
    """Return the models that read a conversation, each with its tokenizer: the answering model and its helpers."""
    return [(model, tokenizer), *(steering.helpers if steering else ())]


def _fitting(talk: list[Message], readers: Sequence["Pair"]) -> list[Message]:
    """Return the last turns of a conversation that leave room for an answer in all contexts; none if the last message is too long for one."""
    from tasks.engine.context import longest

    needed = min(MAX_NEW_TOKENS, min(longest(model) for model, _ in readers) // 4)
    while len(talk) > 1 and _room(talk, readers) < needed:
        talk = talk[2:]
    return talk if _room(talk, readers) > 0 else []


def _room(talk: list[Message], readers: Sequence["Pair"]) -> int:
    """Return the number of tokens that an answer to a conversation may have."""
    from tasks.engine.context import longest
    from tasks.engine.inference.prompt_encoding import prompt_ids

    return min(MAX_NEW_TOKENS, *(longest(model) - len(prompt_ids(talk, tokenizer)) for model, tokenizer in readers))


def _speaker(name: str, router: str) -> Speaker:
    """Return the speaker for a name: its model, or, for a bank, the adapter that the router chooses."""
    folder = places.find(name)
    if not checkpoints.is_bank(folder):
        pair = _load(name)
        return lambda _: (name, *pair)
    if methods.spec("routers", router).knows_task:
        raise ValueError(
            f"Router {router} chooses by the task in the data, and a typed message has no task. Choose another router."
        )
    from tasks.engine.inference.bank import Bank, Routed
    from tasks.engine.inference.prompt_encoding import prompt_ids

    bank = Bank(folder, places.base_of(folder))
    routed = Routed(bank, router, {})

    def speaker(talk: list[Message]) -> tuple[str, Any, Any]:
        read = _fitting(talk, [(bank.base, bank.tokenizer)])  # the router gets the turns that the adapter gets
        (chosen,) = routed.route([prompt_ids(read, bank.tokenizer)]) if read else [None]
        return f"{name} → {chosen or 'base'}", bank.model(chosen), bank.tokenizer

    return speaker


def _steer(model: "Pair", by: tuple[str, str], name: str, alpha: float | None) -> "Steering":
    """Return the steering of `model` by the difference between an expert and its antiexpert, which is the base of an expert adapter."""
    from tasks.engine.inference.steering import steer

    spec = methods.spec("decoders", name)
    expert, antiexpert = map(places.find, by)
    roles = {"expert": (expert, antiexpert), "antiexpert": (antiexpert, places.BASE)}
    helpers = [models.load(*roles[role]) for role in spec.helpers]
    config = spec.config.model_validate({} if alpha is None else {"alpha": alpha})
    return steer(model, helpers, partial(methods.load("decoders", name).combine, config=config))


def _reply(model: Any, tokenizer: Any, conversation: list[Message], steering: "Steering | None") -> Answer:
    from tasks.engine.inference import generation

    began = time.time()
    (response,) = generation.respond(
        model,
        [conversation],
        tokenizer,
        max_new_tokens=_room(conversation, _readers(model, tokenizer, steering)),
        batch_size=1,
        steering=steering,
    )
    return Answer(
        response.text,
        tokens_read=response.tokens_read,
        tokens_written=response.tokens_written,
        began=began,
        seconds=time.time() - began,
    )


def _read_line() -> str:
    """Return the next typed line; an empty text at the end of input."""
    try:
        return input("> ").strip()
    except EOFError:
        sys.stdout.write("\n")  # the cursor stays behind the prompt
        return ""


def _load(name: str) -> "Pair":
    """Return a model and its tokenizer."""
    folder = places.find(name)
    return models.load(folder, places.base_of(folder))


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ratchet chat")
    parser.add_argument("names", nargs="+")
    parser.add_argument("--steered-by", nargs=2)
    parser.add_argument("--decoder", default="")
    parser.add_argument("--alpha", type=float)
    parser.add_argument("--router", default="nearest")
    return parser.parse_args(words)


if __name__ == "__main__":
    try:
        sys.exit(main(**vars(_arguments(sys.argv[1:]))))
    except ValueError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
