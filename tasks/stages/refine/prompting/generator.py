"""The generators `local` and `endpoint`: proposals by prompting a model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.core.records import Example, Message, Unfit, content_id
from tasks.core.text.writing import Answer, Write
from tasks.stages.refine.prompting.answers import parse_new_prompt, rewritten_example
from tasks.stages.refine.prompting.prompts import answer_prompt, rewrite_prompt
from tasks.stages.refine.proposals import NO_REQUEST, PUZZLE, TOOLS, Failed, Job, Proposal


@dataclass(frozen=True)
class PromptedGenerator:
    """Proposes rewrites that a model writes."""

    name: str
    """Its name in the lineage."""
    asks: Literal["prompt", "answer"]
    """`prompt` asks for a new prompt and an answer to it, `answer` only for another answer."""
    tries: int
    seed: int
    write: Write

    def propose(self, jobs: Sequence[Job], attempt: int) -> list[Proposal | Failed | None]:
        """Return this attempt's proposal for each job, in order; None if there is nothing more to try."""
        if attempt >= self.tries:
            return [None for _ in jobs]
        keys = [f"{self.seed} {job.example.id} {job.operator} {attempt}" for job in jobs]
        last = self._new_prompts(jobs, keys) if self.asks == "prompt" else [self._same_prompt(job) for job in jobs]
        requests = [
            None if isinstance(message, Failed) else answer_prompt([*job.example.prompt[:-1], message])
            for job, message in zip(jobs, last, strict=True)
        ]
        answers = self._answers(requests, [f"{key} answer" for key in keys])
        return [
            message if isinstance(message, Failed) else self._proposal(job, message, next(answers))
            for job, message in zip(jobs, last, strict=True)
        ]

    def _new_prompts(self, jobs: Sequence[Job], keys: Sequence[str]) -> list[Message | Failed]:
        """Return a new prompt for each job, or the reason why there is none."""
        fixed = [_fixed(job.example) for job in jobs]
        requests = [None if why else rewrite_prompt(job) for job, why in zip(jobs, fixed, strict=True)]
        answers = self._answers(requests, keys)
        return [
            self._failed(job, why) if why else self._new_prompt(job, next(answers))
            for job, why in zip(jobs, fixed, strict=True)
        ]

    def _same_prompt(self, job: Job) -> Message | Failed:
        return self._failed(job, why) if (why := _with_tools(job.example)) else job.example.prompt[-1]

    def _new_prompt(self, job: Job, answer: Answer) -> Message | Failed:
        prompt = _useless(answer) or parse_new_prompt(answer.text)
        return self._failed(job, prompt, answer.text) if isinstance(prompt, Unfit) else Message("user", prompt)

    def _proposal(self, job: Job, request: Message, answer: Answer) -> Proposal | Failed:
        example = _useless(answer) or rewritten_example(job, request, answer.text)
        if isinstance(example, Unfit):
            return self._failed(job, example, answer.text)
        return Proposal(example, job, self.name, (job.example.id,), self._hash(job))

    def _answers(self, requests: Sequence[list[Message] | None], keys: Sequence[str]) -> Iterator[Answer]:
        """Return the answers to the requests that are not None."""
        present = [(request, key) for request, key in zip(requests, keys, strict=True) if request]
        return iter(
            list(self.write([request for request, _ in present], [key for _, key in present])) if present else ()
        )

    def _failed(self, job: Job, why: Unfit, text: str = "") -> Failed:
        return Failed(job, self.name, why, text, self._hash(job))

    def _hash(self, job: Job) -> str:
        """Return the hash of the first request of a job."""
        request = rewrite_prompt(job) if self.asks == "prompt" else answer_prompt(job.example.prompt)
        return content_id(*(part for message in request for part in (message.role, message.content)))


def _fixed(example: Example) -> Unfit | None:
    """Return the reason if the prompt of an example cannot be replaced by another."""
    if why := _with_tools(example):
        return why
    if example.tests and not example.tests.run_programs:
        return Unfit(PUZZLE, "its verifier knows only the question as it stands")
    if (role := example.prompt[-1].role) != "user":
        return Unfit(NO_REQUEST, f"its answer follows a message of role {role}, which is not a request to rewrite")
    return None


def _with_tools(example: Example) -> Unfit | None:
    """Return the reason for refusal if a conversation has tools, since requests carry neither their schemas nor their calls."""
    if example.tools or any(message.tool_calls or message.role == "tool" for message in example.prompt):
        return Unfit(TOOLS, "its conversation has tools, which requests do not carry")
    return None


def _useless(answer: Answer) -> Unfit | None:
    """Return the reason if there is no answer, or if it was cut off: a model trained on such answers would learn to stop anywhere."""
    if answer.refused:
        return Unfit("the server refuses", answer.refused)
    return None if answer.ended else Unfit("cut off", "it has as many tokens as `max_new_tokens` allows, and no end")
