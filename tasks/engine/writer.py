"""Who writes new text for a stage: a server, or a model of this machine. Both answer the same question only once."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tasks.core.compute import Compute
from tasks.core.imports import lasting
from tasks.core.records import Message
from tasks.core.stage import Run
from tasks.core.writing import Answer, Decoding, Server, Write
from tasks.io import checkpoints
from tasks.io.generators.answers import Answers


def of_server(server: Server, decoding: Decoding, run: Run) -> Write:
    """What has a server write. Tokens and cost of what is not kept from earlier runs are logged."""
    from tasks.io.generators.endpoint import Endpoint

    endpoint = Endpoint(server, run.cache / "answers")
    read = written = 0

    def write(prompts: Sequence[Sequence[Message]], keys: Sequence[str]) -> Iterator[Answer]:
        nonlocal read, written
        answers = endpoint.write(prompts, keys, decoding)
        for answer in run.track(answers, total=len(prompts), unit="answer"):
            read, written = read + answer.tokens_read, written + answer.tokens_written
            yield answer
        cost = (read * server.prompt_price + written * server.answer_price) / 1e6
        run.log(tokens_read=read, tokens_written=written, cost=cost)

    return write


def of_model(folder: Path, decoding: Decoding, compute: Compute, run: Run, parent: Path | None = None) -> Write:
    """What has the model in `folder` write; `parent` is the one that an adapter stands on.

    Batches are those of the whole list of prompts, and each is kept as it is done: an interrupted run goes on to the same bytes.
    """
    with lasting():
        from tasks.engine import device, generation
    device.use(compute)
    model, tokenizer = checkpoints.load(folder, parent, dtype=device.dtype(compute), device=compute.device)
    answers = Answers(run.cache / "answers")
    who = [checkpoints.weights_digest(folder), checkpoints.weights_digest(parent) if parent else "", compute.precision]

    def batch(prompts: list[Sequence[Message]], keys: list[str]) -> list[str]:
        asked = [[asdict(message) for message in prompt] for prompt in prompts]
        question = [who, decoding.model_dump(mode="json"), asked, keys]
        if (kept := answers.get(question)) is None:
            kept = generation.write(
                model,
                prompts,
                tokenizer,
                max_new_tokens=decoding.max_new_tokens,
                batch_size=len(prompts),
                sampling=generation.Sampling(decoding.temperature, decoding.top_p, keys),
            )
            answers.keep(question, kept)
        return [str(text) for text in kept]

    def write(prompts: Sequence[Sequence[Message]], keys: Sequence[str]) -> list[Answer]:
        order = sorted(range(len(prompts)), key=lambda here: sum(len(message.content) for message in prompts[here]))
        batches = [order[start : start + decoding.batch_size] for start in range(0, len(order), decoding.batch_size)]
        texts = [""] * len(prompts)
        for places in run.track(batches, unit="batch"):
            found = batch([prompts[here] for here in places], [keys[here] for here in places])
            for here, text in zip(places, found, strict=True):
                texts[here] = text
        return [Answer(text) for text in texts]

    return write
