"""Write data/lm_eval.json: the results of lm-evaluation-harness on a small model, item by item. Needs the extra `lm-eval`.

    python -m tests.stages.evaluate.lm_eval_numbers FOLDER

FOLDER is a scratch folder. The model is `tests.tiny.decided`, whose weights come from a seed. Prompts use its chat template.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tests import tiny

NUMBERS = Path(__file__).parent / "data/lm_eval.json"
OPTIONS = ["to walk", "a house of stone by the sea", "red", "9"]
CHOICES = [{"question": f"What is it, {n}?", "options": OPTIONS, "right": n % 4} for n in range(24)]
QUESTIONS = [f"Say {n}{' and go on' * (n % 4)}." for n in range(24)]
MAX_NEW_TOKENS = 6
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
metadata: {{version: 1.0}}
"""
CHOICE = """
output_type: multiple_choice
doc_to_choice: options
doc_to_target: right
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
EXACT = """
output_type: generate_until
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["<never>"], max_gen_toks: {most}, do_sample: false}}
metric_list: [{{metric: exact_match, ignore_case: {loose}, ignore_punctuation: {loose}}}]
"""


def main(folder: Path) -> None:
    """Run the harness on the items and write the numbers."""
    (folder / "model").mkdir(parents=True)
    pair = tiny.decided(tiny.fetch(folder / "model", {"from": "config"})["base"])
    outputs = [sample["filtered_resps"][0] for sample in _run(pair, folder, "probe", _exact(["?"] * 24), "false")]
    answers = [_reference(n, output) for n, output in enumerate(outputs)]
    choice = _run(pair, folder, "choice", CHOICES, None)
    record = {
        "version": _version(),
        "choice": [
            {"item": row, "log_likelihoods": [resp[0] for resp in sample["filtered_resps"]]}
            | {metric: sample[metric] for metric in ("acc", "acc_norm")}
            for row, sample in zip(CHOICES, choice, strict=True)
        ],
        "exact": [
            {"item": row, "response": strict["filtered_resps"][0], "exact_match": strict["exact_match"]}
            | {"exact_match, loose": loose["exact_match"]}
            for row, strict, loose in zip(
                _exact(answers),
                *(_run(pair, folder, f"exact_{word}", _exact(answers), word) for word in ("false", "true")),
                strict=True,
            )
        ],
    }
    NUMBERS.write_text(json.dumps(record, indent=1, ensure_ascii=True) + "\n")


def _exact(answers: list[str]) -> list[dict[str, str]]:
    return [{"question": question, "answer": answer} for question, answer in zip(QUESTIONS, answers, strict=True)]


def _reference(number: int, output: str) -> str:
    """Return in turn the model's own answer, the same with other capitals, or another text."""
    return (output, output.swapcase() + "!", "something else")[number % 3]


def _version() -> str:
    from importlib import metadata

    return metadata.version("lm-eval")


def _run(pair: Any, folder: Path, name: str, rows: list[dict[str, Any]], loose: str | None) -> list[dict[str, Any]]:
    """Run a task of the harness on these rows, and return its samples in their order."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tasks = folder / name
    tasks.mkdir(parents=True)
    (tasks / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kind = CHOICE if loose is None else EXACT.format(loose=loose, most=MAX_NEW_TOKENS)
    (tasks / "task.yaml").write_text(TASK.format(name=name, rows=tasks / "rows.jsonl") + kind)
    model, tokenizer = pair
    evaluation = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=5),
        tasks=[name],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        apply_chat_template=True,
        log_samples=True,
        bootstrap_iters=0,
    )
    return sorted(evaluation["samples"][name], key=lambda sample: sample["doc_id"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
