"""Write the logs of this folder with the two harnesses themselves, offline.

    python -m venv /tmp/harnesses && /tmp/harnesses/bin/pip install inspect-ai lm-eval
    /tmp/harnesses/bin/python tests/flows/experiments/data/logs/make.py

inspect-ai runs a `mockllm` model that answers a given number of 24 sums; lm-evaluation-harness runs its `dummy` model, which guesses.
"""

import json
import os
import random
import shutil
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SUMS = [(a, b) for a in range(2, 8) for b in (3, 14, 25, 36)]
os.environ |= {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}


def inspect_logs(work: Path) -> None:
    """Write sums by inspect-ai: two models, two epochs, another version with other prompts, a failure, the .json form."""
    import inspect_ai
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import Score, Target, accuracy, match, mean, scorer, stderr
    from inspect_ai.solver import TaskState, generate, prompt_template

    @scorer(metrics=[mean(), stderr()])
    def closeness():
        """One minus the relative error, a score that is not a proportion of right answers."""

        async def score(state: TaskState, target: Target) -> Score:
            error = abs(float(state.output.completion) - float(target.text)) / float(target.text)
            return Score(value=round(max(0.0, 1 - error), 4))

        return score

    @scorer(metrics={"short": [accuracy()], "digits": [mean()]})
    def form():
        """A scorer with two scores: a letter and a number."""

        async def score(state: TaskState, target: Target) -> Score:
            text = state.output.completion
            return Score(value={"short": "C" if len(text) < 3 else "P" if len(text) == 3 else "I", "digits": len(text)})

        return score

    def task(template: str = "{prompt}", version: int = 0, **settings) -> inspect_ai.Task:
        samples = [
            Sample(id=f"sum-{a}-{b}", input=f"What is {a} + {b}?", target=str(a + b), metadata={"first": f"with {a}"})
            for a, b in SUMS
        ]
        solvers = [generate()] if template == "{prompt}" else [prompt_template(template), generate()]
        scorers = [match(numeric=True), closeness(), form()]
        return inspect_ai.Task(
            MemoryDataset(samples), solver=solvers, scorer=scorers, name="sums", version=version, **settings
        )

    def model(seed: int, right: float, epochs: int = 1, broken: int | None = None):
        draw = random.Random(seed)
        answers = [str(a + b + (0 if draw.random() < right else draw.choice((-9, 1, 10)))) for a, b in SUMS]
        if broken is not None:
            answers[broken] = "no number"  # a text that the scorer cannot read, so that the evaluation fails
        by_question = {f"{a} + {b}?": answer for (a, b), answer in zip(SUMS, answers, strict=True)}

        def answer(input, tools, tool_choice, config) -> ModelOutput:
            text = next(answer for question, answer in by_question.items() if f" {question}" in input[-1].text)
            if epochs > 1 and draw.random() < 0.3:
                text = str(int(text) + 1)
            output = ModelOutput.from_content("mockllm/model", text)
            output.usage = ModelUsage(
                output_tokens=len(text)
            )  # otherwise tiktoken would count the tokens, and it needs a network
            return output

        return get_model("mockllm/model", custom_outputs=answer, memoize=False)

    def write(name: str, task: inspect_ai.Task, model, **settings) -> None:
        folder = work / name
        inspect_ai.eval(
            task, model=model, log_dir=str(folder), display="none", max_samples=1, log_realtime=False, **settings
        )
        (log,) = [path for path in folder.iterdir() if path.suffix in (".eval", ".json")]
        shutil.copy(log, FOLDER / f"{name}{log.suffix}")

    write("sums-small", task(), model(1, 0.5))
    write("sums-large", task(), model(2, 0.9))
    write("sums-epochs", task(), model(3, 0.8, epochs=2), epochs=2, limit=12)
    write("sums-other", task("Please answer with a number.\n{prompt}", version=2), model(2, 0.9))
    write("sums-failed", task(), model(2, 0.8, broken=9))
    write("sums-first", task(), model(4, 0.6), limit=12, log_format="json")


def harness_logs(work: Path) -> None:
    """Write choices by lm-evaluation-harness: two runs of a model that guesses, and one with another prompt."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    def rows():
        for a, b in SUMS:
            right = a + b
            yield {
                "question": f"What is {a} + {b}?",
                "choices": [str(right), str(right + 1), str(right - 9)],
                "label": 0,
            }

    data = work / "sums.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    tasks = work / "tasks"
    tasks.mkdir()
    for name, prompt in (("sums_choice", "{{question}}"), ("sums_polite", "Please choose. {{question}}")):
        (tasks / f"{name}.yaml").write_text(
            f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\n"
            f'output_type: multiple_choice\ndoc_to_text: "{prompt}"\ndoc_to_choice: choices\ndoc_to_target: label\n'
            "metric_list:\n  - {metric: acc}\n  - {metric: acc_norm}\nmetadata: {version: 1.0}\n"
        )
        (tasks / f"{name}_words.yaml").write_text(
            f"task: {name}_words\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\n"
            f'output_type: generate_until\ndoc_to_text: "{prompt}"\ndoc_to_target: "{{{{choices[0]}}}}"\n'
            "generation_kwargs: {until: [x]}\nmetric_list:\n  - {metric: exact_match}\nmetadata: {version: 1.0}\n"
        )
    manager = TaskManager(include_path=str(tasks))
    for name, seed, chosen in (
        ("choice-first", 1, ["sums_choice", "sums_choice_words"]),
        ("choice-second", 2, ["sums_choice", "sums_choice_words"]),
        ("choice-polite", 2, ["sums_polite"]),
    ):
        tracker = EvaluationTracker(output_path=str(work / name))
        results = lm_eval.simple_evaluate(
            "dummy",
            tasks=chosen,
            task_manager=manager,
            random_seed=seed,
            log_samples=True,
            evaluation_tracker=tracker,
            bootstrap_iters=0,
        )
        samples = results.pop("samples")
        tracker.save_results_aggregated(results, samples)
        for task in chosen:
            tracker.save_results_samples(task, samples[task])
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        shutil.copytree(next((work / name).iterdir()), FOLDER / name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        os.environ["HF_HOME"] = f"{work}/hub"
        inspect_logs(Path(work))
        harness_logs(Path(work))
