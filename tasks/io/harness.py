"""Standard benchmarks, run by EleutherAI's lm-evaluation-harness: its own tasks, or a user's YAML tasks over local rows.

The package is an extra (`pip install "ratchet-llm[lm-eval]"`) and is imported on demand. Its own tasks read data sets from the hub. Code of a
data set or of a model is never run, and tasks that run model-written code are refused.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.io.system import packages

KEY = "evaluate.harness"


@dataclass(frozen=True)
class Score:
    """One figure of one benchmark."""

    name: str
    """Task and metric: `arc_easy acc`."""
    value: float
    error: float
    """The standard error; 0 if the harness reports none."""
    items: int


def version() -> str:
    """Return the installed version of the harness. Raises ValueError with the command that installs it."""
    return packages.version("lm-eval", KEY)


def run(
    model: Any,
    tokenizer: Any,
    tasks: Sequence[str],
    *,
    include: Path | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    chat: bool = False,
    seed: int = 0,
) -> list[Score]:
    """Evaluate the tasks on their first `limit` items. With `chat`, prompts use the model's chat template.

    A group with its own figures replaces its tasks. `include` is a folder with YAML tasks. Raises ValueError for a task that does not
    exist, and for one that runs the model's code.
    """
    version()
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(include) if include else None)
    check_names(tasks, manager.all_tasks)
    evaluation = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, trust_remote_code=False),
        tasks=list(tasks),
        task_manager=manager,
        limit=limit,
        apply_chat_template=chat,
        log_samples=False,
        confirm_run_unsafe_code=False,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    return [score for task in heads(evaluation) for score in scores(task, evaluation["results"][task])]


def check_names(tasks: Sequence[str], known: Sequence[str]) -> None:
    """Raise ValueError for the first unknown task, with similar names."""
    for task in tasks:
        if task not in known:
            near = difflib.get_close_matches(task, known, n=3)
            hint = f"Did you mean {' or '.join(near)}?" if near else "`lm-eval ls tasks` lists them."
            raise ValueError(f"{KEY}.tasks: there is no task {task!r}. {hint}")


def heads(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the tasks and groups of a result that are not replaced by a group with its own figures."""
    parts = {
        part
        for group, members in evaluation["group_subtasks"].items()
        if any(scores(group, evaluation["results"].get(group, {})))
        for part in members
    }
    return sorted(evaluation["results"].keys() - parts)


def scores(task: str, figures: Mapping[str, Any]) -> Iterator[Score]:
    """Yield the figures of one task from the harness's format: `acc,none`, `acc_stderr,none`, `sample_len`, …"""
    for key, value in sorted(figures.items()):
        metric, _, kind = key.partition(",")
        if kind and not metric.endswith("_stderr"):
            error = figures.get(f"{metric}_stderr,{kind}")
            name = f"{task} {metric}" if kind == "none" else f"{task} {metric} ({kind})"
            yield Score(name, float(value), error if isinstance(error, float) else 0.0, int(figures["sample_len"]))
