"""Stage `evaluate`: measure one model here (domain) and elsewhere (general), by loss and by programs that run.

reads   the model, the one that it stands on, data/ingested/{test,test_documents,gate,gate_documents}.parquet; where a decoder
        steers, the folder that it names
writes  data/metrics/<group>/<model>.json, data/results/<group>/<model>.parquet (every item, for paired comparisons);
        data/gate/<model>.parquet (the same of the gate set, which no report shows)
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tasks import methods
from tasks.core.records import Document, Example, Result
from tasks.core.sequences import Encoded
from tasks.core.stage import Run
from tasks.engine import device, encode, generation, scoring
from tasks.engine.forward import token_losses
from tasks.engine.generation import Sampling
from tasks.io import checkpoints, provenance, sandbox, tables
from tasks.io.sources import gym
from tasks.stages.evaluate import answer, choose, standard
from tasks.stages.evaluate.exams import Exam, exams
from tasks.stages.evaluate.params import EvaluateParams, Settings
from tasks.stages.evaluate.solve import solve
from tasks.stages.evaluate.summarise import Held, shares, summarise

Pick = Callable[[Iterable[Encoded], int], list[Encoded]]
"""Which of some sequences are scored, by how many tokens at most."""


def main(inputs: dict[str, Path], outputs: dict[str, Path], settings: Settings, run: Run) -> None:
    """Score, generate, judge, and write every item beside the summary."""
    params = settings.evaluate
    device.use(settings.compute)
    model, tokenizer = _load(inputs["model"], inputs["base"], settings)
    speaker = _speaker(model, tokenizer, inputs, settings)
    pick = partial(choose.within, seed=params.seed)
    found = _measure(inputs["test"], inputs["documents"], speaker, tokenizer, params, run, pick)
    measured = summarise(found.results, found.held, params)
    metrics = {
        **measured,
        **_standard(speaker, params),
        "parameters": model.num_parameters(),
        "trainable": _trainable(inputs["model"]),
        "bytes": sum(file.stat().st_size for file in checkpoints.weights(inputs["model"])),
        "settings": _circumstances(settings, found.level),
    }
    tables.write(outputs["results"], found.results, Result)
    if "gate" in outputs:  # a trial of a comparison has none
        tables.write(outputs["gate"], _gate_results(inputs, speaker, tokenizer, params, run), Result)
    outputs["metrics"].write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    losses = {measure: figures["loss"] for measure, figures in measured.items() if "loss" in figures}
    run.log(None, **{f"{measure}_loss": loss for measure, loss in losses.items()}, **shares(found.answers))
    run.say(f"evaluate {run.item}: " + ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()) + " nats/token")


def examine(inputs: dict[str, Path], output: Path, settings: Settings, run: Run) -> None:
    """Measure a model on the gate set alone, as `main` does beside the rest."""
    device.use(settings.compute)
    model, tokenizer = _load(inputs["model"], inputs["base"], settings)
    speaker = _speaker(model, tokenizer, inputs, settings)
    tables.write(output, _gate_results(inputs, speaker, tokenizer, settings.evaluate, run), Result)


@dataclass(frozen=True)
class _Speaker:
    """What is scored and writes: the measured model, or another one that it steers."""

    model: Any
    tokenizer: Any
    steering: generation.Steering | None = None


class _Measured(NamedTuple):
    """What came of one set of held-out data."""

    losses: list[Result]
    answers: list[Result]
    held: list[Held]
    level: int | None
    """The sandbox's, where answers are programs."""

    @property
    def results(self) -> list[Result]:
        return self.losses + self.answers


def _measure(
    test: Path, documents: Path, speaker: _Speaker, tokenizer: Any, params: EvaluateParams, run: Run, pick: Pick
) -> _Measured:
    """Score the examples and documents of one set, those that `pick` takes, and have its tasks answered."""
    examples = tables.read(test, Example)
    losses = [
        result
        for measure, sequences, groups in _texts(examples, tables.read(documents, Document), tokenizer, params, pick)
        for result in _score(measure, sequences, groups, speaker, run)
    ]
    level, held = _held(exams(examples, tokenizer, params), run)
    answers = [row for exam, not_run in held if not not_run for row in _solve(exam, speaker, params, run)]
    return _Measured(losses, answers, held, level)


def _gate_results(
    inputs: dict[str, Path], speaker: _Speaker, tokenizer: Any, params: EvaluateParams, run: Run
) -> list[Result]:
    """What came of the gate set, of which as much is measured as of the test set, and the same as it grows."""
    params = params.model_copy(update={"pass_items": params.gate_items, "human_eval": 0, "samples": 0})
    sets = inputs["gate"], inputs["gate_documents"]
    return _measure(*sets, speaker, tokenizer, params, run, choose.lasting).results


def _speaker(model: Any, tokenizer: Any, inputs: dict[str, Path], settings: Settings) -> _Speaker:
    """The measured model, or the one that the decoder has it steer. Raises ValueError where that is not the one pinned."""
    name = settings.evaluate.decoder
    decoder = methods.spec("decoders", name)
    config = decoder.config.model_validate(settings.methods[name])
    if not decoder.helpers:
        return _Speaker(model, tokenizer)
    main = _load(_pinned(name, config), None, settings)
    tuned = inputs["model"] != inputs["base"]  # one that was not is its own antiexpert: it steers nowhere
    roles = {"expert": (model, tokenizer)}
    roles["antiexpert"] = _load(inputs["base"], None, settings) if tuned else roles["expert"]
    combine = partial(methods.load("decoders", name).combine, config=config)
    return _Speaker(*main, generation.steer(main, [roles[role] for role in decoder.helpers], combine))


def _pinned(name: str, values: Any) -> Path:
    """The folder that a decoder steers. Raises ValueError unless it holds what its settings say: DVC does not watch it."""
    if not values.steers:
        raise ValueError(f"methods.{name}.steers names no model: write the folder of the one to steer there.")
    folder = Path(values.steers)
    checkpoints.check_folder(folder)
    found = digest(folder)
    if found != values.digest:
        raise ValueError(
            f"{folder} is not the model that methods.{name}.digest names ({values.digest[:12] or 'nothing'}). "
            f"If you mean the one that is there now, write `digest: {found}`."
        )
    return folder


def digest(folder: Path) -> str:
    """What a model's folder holds, as one hash: `digest` of a decoder that steers it."""
    files = [file for kind in ("*.safetensors", "*.json", "*.jinja") for file in folder.glob(kind)]
    return provenance.facts_digest(
        {file.name: provenance.digest(file) for file in files if file.name != checkpoints.CARD}
    )


def _load(folder: Path, base: Path | None, settings: Settings) -> tuple[Any, Any]:
    compute = settings.compute
    return checkpoints.load(folder, base, dtype=device.dtype(compute), device=compute.device)


def _texts(
    test: Sequence[Example], documents: Sequence[Document], tokenizer: Any, params: EvaluateParams, pick: Pick
) -> Iterable[tuple[str, list[Encoded], dict[str, str]]]:
    """Each measure of loss that there is anything for: its name, what is scored, and the group of each item.

    Raises ValueError where there are examples and none fits.
    """
    if test:
        fitting = [row for row in encode.examples(test, tokenizer, params.max_tokens) if row is not None]
        if not fitting:
            raise ValueError(
                f"evaluate.max_tokens={params.max_tokens}: none of the {len(test)} held-out examples fits."
            )
        groups = {example.id: example.group for example in test}
        yield "domain", pick(fitting, params.domain_tokens), groups
    for measure, domain in (("domain_text", "domain"), ("general", "general")):
        rows = [document for document in documents if document.domain == domain]
        if not rows:
            continue  # a corpus is a choice; the report says what could not be measured
        first = {piece.id: piece for piece in reversed(list(encode.documents(rows, tokenizer, params.max_tokens)))}
        groups = {document.id: document.group for document in rows}
        yield measure, pick(first.values(), params.text_tokens), groups


def _score(measure: str, sequences: list[Encoded], groups: dict[str, str], speaker: _Speaker, run: Run) -> list[Result]:
    sizes = {sequence.id: sequence.size for sequence in sequences}
    track = partial(run.track, unit="pack")
    nll = speaker.steering.losses if speaker.steering else token_losses
    rows = [
        Result(measure, loss.id, groups[loss.id], None, loss.nats, loss.tokens, sizes[loss.id], "", "")
        for loss in scoring.losses(speaker.model, sequences, track, nll)
    ]
    return sorted(rows, key=lambda row: row.item)


def _held(asked: Sequence[Exam], run: Run) -> tuple[int | None, list[Held]]:
    """The level of isolation for answers that are programs, None where none is one; and which exams can be held at it."""
    level = None
    if any(exam.runs_programs for exam in asked):
        found = sandbox.probe()
        run.note(sandbox=str(found))
        level = found.number
    return level, [(exam, exam.not_run(level)) for exam in asked]


def _solve(exam: Exam, speaker: _Speaker, params: EvaluateParams, run: Run) -> list[Result]:
    track: Callable[[Any], Any] = partial(run.track, unit="batch")

    def write(tasks: Sequence[Example], sampling: Sampling | None) -> list[str]:
        return generation.write(
            speaker.model,
            [task.prompt for task in tasks],
            speaker.tokenizer,
            max_new_tokens=params.max_new_tokens,
            batch_size=params.batch_size,
            sampling=sampling,
            stop=params.stop,
            track=track,
            steering=speaker.steering,
        )

    judge = partial(answer.judge, run_cases=partial(sandbox.run, minimum=2), score=gym.score)
    return solve(exam, params, write, judge)


def _standard(speaker: _Speaker, params: EvaluateParams) -> dict[str, Any]:
    """The scores of standard benchmarks, where they are asked for. Raises ValueError where another model is steered."""
    if params.harness is None:
        return {}
    if speaker.steering:
        raise ValueError(
            f"evaluate.harness measures one model's own logits, and decoder {params.decoder} steers another's. "
            "Leave one of the two out."
        )
    return {"harness": standard.measure(speaker.model, speaker.tokenizer, params.harness, params)}


def _circumstances(settings: Settings, level: int | None) -> dict[str, Any]:
    """Everything that a figure depends on beside the model and the data."""
    params = settings.evaluate
    return {
        **params.model_dump(mode="json"),
        "padding": generation.PADDING,
        "precision": device.precision(settings.compute),
        "machine": provenance.machine_class(),
        "methods": settings.methods,
        "sandbox": level,
        "ends_at": [*generation.ENDS, *params.stop],
    }


def _trainable(model: Path) -> int:
    """Parameters that training moved; 0 for the base."""
    course = model / "training.json"
    return json.loads(course.read_text(encoding="utf-8"))["trainable"] if course.is_file() else 0
