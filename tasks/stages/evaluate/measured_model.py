"""The model that scores and generates: the measured model, another model that it steers, or a bank whose router chooses the adapters."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tasks import methods
from tasks.core.records import Message
from tasks.core.sequences import Encoded
from tasks.core.stage import Run
from tasks.core.text.writing import Server
from tasks.core.weights.row import listens
from tasks.engine import context, device
from tasks.engine.forward import token_losses
from tasks.engine.inference import answer_cache, grammar, prompt_encoding, scoring
from tasks.engine.inference.answer_cache import Writing, at
from tasks.engine.inference.bank import Bank, Routed
from tasks.engine.inference.batches import Apply, here
from tasks.engine.inference.generation import Response, Sampling
from tasks.engine.inference.local_model import LocalModel, identity
from tasks.engine.inference.served import ServedModel
from tasks.engine.inference.steering import Steering, steer
from tasks.io import pinned
from tasks.io.generators import completions
from tasks.io.generators.answers import Answers
from tasks.io.system.workers import Workers
from tasks.io.weights import checkpoints, models
from tasks.stages.evaluate.config import EvaluateConfig, StageConfig


@dataclass(frozen=True)
class MeasuredModel:
    """A model that scores and generates, or several on one base."""

    model: Any
    tokenizer: Any
    steering: Steering | None = None
    identity: Any = None
    """Everything that its greedy answers depend on besides prompts and settings; None if answers are not cached."""
    served: ServedModel | None = None
    """The measured model on a server that generates in place of this machine."""
    routed: Routed | None = None
    """The bank whose adapters generate and score the prompts that the router sends them; `model` is then their base."""
    under: "Callable[[str | None], MeasuredModel] | None" = None
    """Returns the base with the named adapter of the bank, or, for None, the base alone."""
    on: Apply | None = None
    """Scores and generates with the model, also on the nodes of a cluster; None if its folder does not define the model completely."""

    def losses(self, sequences: Sequence[Encoded], run: Run) -> Iterator[scoring.Loss]:
        """Yield the loss of each sequence, in no particular order. In a bank, the adapter that the router chooses scores the sequence."""
        if self.routed:
            prompts = [_prompt(sequence) for sequence in sequences]
            for member, places in self._apart(prompts, [sequence.task for sequence in sequences]):
                yield from member.losses([sequences[place] for place in places], run)
            return
        self.check(sequences)
        nll = self.steering.losses if self.steering else token_losses
        yield from scoring.losses(self.model, sequences, partial(run.track, unit="pack"), nll, self.on)

    def check(self, sequences: Sequence[Encoded], setting: str = "") -> None:
        """Raise ValueError if a sequence is longer than the context of this model or of a helper. `setting` limits its length."""
        helpers = self.steering.helpers if self.steering else ()
        for reader in (self.model, *(model for model, _ in helpers)):
            context.check(reader, sequences, setting)

    def respond(
        self,
        prompts: Sequence[Sequence[Message]],
        config: EvaluateConfig,
        run: Run,
        sampling: Sampling | None = None,
        tasks: Sequence[str] = (),
        tools: Sequence[str | None] = (),
        constrained: bool = False,
        programs: bool = False,
    ) -> list[Response]:
        """Return the answer to each prompt, from the cache of earlier runs if it is there. Without `sampling`, answers are greedy.

        `tasks` has the task of each prompt, which some adapters and routers use, and `tools` its schemas. With `constrained`, answers are
        calls that the schemas allow. With `programs`, an answer ends with its first code block.
        """
        tools = tools if any(tools) else ()
        constrained = constrained and bool(tools)
        if self.routed:
            return self._respond_apart(prompts, config, run, sampling, tasks, tools, constrained, programs)
        tasks = tasks if listens(self.model) else ()
        if self.served:
            return self.served.respond(
                prompts,
                max_new_tokens=config.max_new_tokens,
                sampling=sampling,
                stop=config.stop,
                tools=tools,
                programs=programs,
            )

        writing = Writing(
            config.max_new_tokens,
            config.batch_size,
            sampling and replace(sampling, keys=()),
            config.stop,
            self.steering,
            constrained,
            programs,
        )
        apply = self.on or here(self.model, self.tokenizer)
        answers = Answers(run.cache / "answers") if self.identity else None
        keys = sampling.keys if sampling else [""] * len(prompts)
        how = [config.max_new_tokens, config.stop, sampling and [sampling.temperature, sampling.top_p]]
        how += [{"constrained": grammar.version()}] if constrained else []
        track = partial(run.track, unit="group of answers")
        identity = [self.identity, how]
        return answer_cache.respond(prompts, keys, writing, apply, answers, identity, track, tasks, tools)

    def _respond_apart(
        self,
        prompts: Sequence[Sequence[Message]],
        config: EvaluateConfig,
        run: Run,
        sampling: Sampling | None,
        tasks: Sequence[str],
        tools: Sequence[str | None],
        constrained: bool,
        programs: bool,
    ) -> list[Response]:
        """Return the answer to each prompt by the adapter that the router chooses."""
        responses: dict[int, Response] = {}
        for member, places in self._apart(prompt_encoding.ids_of(prompts, self.tokenizer, tools), tasks):
            of_member = at(places, prompts), config, run, sampling and sampling.at(places)
            written = member.respond(*of_member, tools=at(places, tools), constrained=constrained, programs=programs)
            responses |= zip(places, written, strict=True)
        return [responses[place] for place in range(len(prompts))]

    def _apart(
        self, prompts: Sequence[Sequence[int]], tasks: Sequence[str]
    ) -> Iterator[tuple["MeasuredModel", list[int]]]:
        """Yield each adapter that has prompts, the base first, with the indices of its prompts."""
        assert self.routed is not None, "only banks are told apart"
        assert self.under is not None, "only banks are told apart"
        names = self.routed.route(prompts, tasks)
        for name in sorted(set(names), key=lambda name: (name is not None, name or "")):
            yield self.under(name), [place for place, other in enumerate(names) if other == name]


def _prompt(sequence: Encoded) -> list[int]:
    """Return the tokens before the first trained one; for a document, which trains from its second token on, all tokens."""
    first = next((place for place, weight in enumerate(sequence.weights) if weight), 0)
    return list(sequence.ids[:first] if first > 1 else sequence.ids)


def load(inputs: dict[str, Path], config: StageConfig, run: Run, workers: Workers) -> tuple[Any, Any, MeasuredModel]:
    """Return the measured model (for a bank, its base), its tokenizer, and the model that scores and generates.

    `workers` distribute its work over a cluster.
    """
    device.use(config.compute)
    if config.evaluate.constrained:
        grammar.library()  # raises if the extra is missing, before weights are read
    if checkpoints.is_bank(inputs["model"]):
        return _bank(inputs, config, run)
    server = _server(config, run)
    # The server may lack the model, so ask it before weights are read.
    described = completions.describe(server) if server else None
    local = LocalModel(inputs["model"], inputs["base"], models.load, config.compute)
    model, tokenizer = local.loaded
    measured = _steered(local, inputs, config, workers)
    if server:
        run.note(server=json.dumps(described, sort_keys=True))
        identity = [pinned.digest(inputs["model"]), pinned.digest(inputs["base"]), described]
        measured = replace(measured, served=ServedModel(server, model, tokenizer, identity, run))
    return model, tokenizer, measured


def _bank(inputs: dict[str, Path], config: StageConfig, run: Run) -> tuple[Any, Any, MeasuredModel]:
    """Return the base of a bank, its tokenizer, and the bank with the router of the config.

    Raises ValueError for settings that need a single model.
    """
    evaluate, folder, base = config.evaluate, inputs["model"], inputs["base"]
    if evaluate.server or methods.spec("decoders", evaluate.decoder).helpers:
        setting = "server" if evaluate.server else f"decoder {evaluate.decoder}"
        raise ValueError(f"evaluate.{setting} takes one model, and {folder} is a bank of adapters. Leave it out.")
    bank = Bank(folder, base, **device.placement(config.compute))
    routed = Routed(bank, evaluate.router, config.methods.get(evaluate.router, {}))
    if evaluate.router == "none":
        run.say(
            f"evaluate {run.item}: evaluate.router is none, so its base answers in place of all {len(bank.names)} adapters"
        )

    def under(name: str | None) -> MeasuredModel:
        known = identity(bank.folder(name) if name else base, base, config.compute)
        return MeasuredModel(bank.model(name), bank.tokenizer, identity=known)

    return bank.base, bank.tokenizer, MeasuredModel(bank.base, bank.tokenizer, routed=routed, under=under)


def _server(config: StageConfig, run: Run) -> Server | None:
    """Return the server that generates, if one is set, with the measured model's name filled in.

    Raises ValueError if the decoder needs the probabilities of all tokens, which servers do not return.
    """
    server, decoder = config.evaluate.server, config.evaluate.decoder
    if server and methods.spec("decoders", decoder).helpers:
        raise ValueError(
            f"evaluate.decoder {decoder} combines the log-probabilities of several models at each token, and a server gives "
            "texts alone. Leave `evaluate.server` out."
        )
    return server and server.model_copy(update={"model": server.model.replace("{item}", run.item or "")})


def _steered(local: LocalModel, inputs: dict[str, Path], config: StageConfig, workers: Workers) -> MeasuredModel:
    """Return the measured model, or the model that it steers under the decoder.

    Raises ValueError if the steered model's digest is not the one set.
    """
    name = config.evaluate.decoder
    decoder = methods.spec("decoders", name)
    decoder_config = decoder.config.model_validate(config.methods[name])
    if not decoder.helpers:
        known = identity(inputs["model"], inputs["base"], config.compute)
        return MeasuredModel(*local.loaded, identity=known, on=local.on(workers))
    if config.evaluate.constrained:
        raise ValueError(
            f"evaluate.decoder {name} writes by several models together, and evaluate.constrained holds one. Leave one of the two out."
        )
    main = _load(_pinned_folder(name, decoder_config), None, config)
    tuned = inputs["model"] != inputs["base"]  # an untuned model is its own antiexpert, so it steers nothing
    roles: dict[str, tuple[Any, Any]] = {"expert": local.loaded}
    roles["antiexpert"] = _load(inputs["base"], None, config) if tuned else roles["expert"]
    combine = partial(methods.load("decoders", name).combine, config=decoder_config)
    return MeasuredModel(*main, steer(main, [roles[role] for role in decoder.helpers], combine))


def _pinned_folder(name: str, values: Any) -> Path:
    """Return the folder of the steered model.

    Raises ValueError if its digest is not the one set: DVC does not watch it.
    """
    if not values.steers:
        raise ValueError(f"methods.{name}.steers names no model: write the folder of the one to steer there.")
    folder = Path(values.steers)
    checkpoints.check_folder(folder)
    pinned.check(folder, pinned.digest(folder), values.digest, f"methods.{name}.digest")
    return folder


def _load(folder: Path, base: Path | None, config: StageConfig) -> tuple[Any, Any]:
    return models.load(folder, base, **device.placement(config.compute))
