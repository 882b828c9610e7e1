"""Parse a model's answers: the new prompt, the judge's score, and the example with the tests that fit it."""

import ast
import doctest
import re
from dataclasses import replace

from tasks.core.records import Example, Message, Tests, Unfit, identify
from tasks.core.text.programs import program
from tasks.core.text.reasoning import answer_of
from tasks.core.text.wording import requested
from tasks.stages.refine.example_text import is_code
from tasks.stages.refine.prompting.prompts import MARK
from tasks.stages.refine.proposals import Job

SCORE = re.compile(r"\s*score:\s*(10|[0-9])(?:\s*/\s*10)?\s*\.?\s*(?:\n|\Z)", re.IGNORECASE)


def parse_score(text: str) -> int | None:
    """Return the judge's score if the answer, after its reasoning, begins with the score line, else None."""
    match = SCORE.match(answer_of(text))
    return int(match.group(1)) if match else None


def parse_new_prompt(text: str) -> str | Unfit:
    """Return the text after the only line that holds nothing but the mark, in the answer without its reasoning."""
    lines = answer_of(text).splitlines()
    marks = [number for number, line in enumerate(lines) if line.strip() == MARK]
    if len(marks) != 1:
        return Unfit("no parse", f"the mark stands there {len(marks)} times" if marks else "the mark is missing")
    prompt = "\n".join(lines[marks[0] + 1 :]).strip()
    return prompt or Unfit("no parse", "nothing follows the mark")


def rewritten_example(job: Job, request: Message, response: str) -> Example | Unfit:
    """Return the job's example with a new last message of the prompt, a new response, and tests that fit them."""
    parent, tests = job.example, job.example.tests
    if job.operator == "extend" and is_code(parent) and request != parent.prompt[-1]:
        tests = doctests_of(request.content)
        if tests is None:
            return Unfit("no tests", "the new prompt holds no function with examples")
    messages = [*parent.prompt[:-1], request, Message("assistant", response.strip())]
    return replace(parent, id=identify(messages, tests), messages=messages, tests=tests, weights=None)


def doctests_of(prompt: str) -> Tests | None:
    """Return the doctests of the function that a prompt asks for, or None if it has none."""
    request = requested(prompt)
    stub, context = (request.stub, request.context) if request else (program(prompt), "")
    try:
        functions = [node for node in ast.parse(stub).body if isinstance(node, ast.FunctionDef)]
        text = ast.get_docstring(functions[-1]) if functions else None
        examples = doctest.DocTestParser().get_examples(text or "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not any(example.want for example in examples):
        return None
    code = "".join(_as_source(example) for example in examples)
    return Tests("doctest", code, functions[-1].name, context)


def _as_source(example: doctest.Example) -> str:
    first, *others = example.source.rstrip("\n").split("\n")
    return (
        "".join(line + "\n" for line in [f">>> {first}", *(f"... {line}".rstrip() for line in others)]) + example.want
    )
