"""The generators `local` and `endpoint`: proposals by prompting a model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.core.records import Message, Unfit, content_id
from tasks.core.text.writing import Answer, Write
from tasks.stages.refine.prompting.answers import parse_new_prompt, rewritten_example
from tasks.stages.refine.prompting.prompts import answer_prompt, rewrite_prompt
from tasks.stages.refine.proposals import PUZZLE, Failed, Job, Proposal


@dataclass(frozen=True)
class PromptedGenerator:
    """Proposes rewrites that a model writes."""

    name: str
    """Its name in the lineage."""
    asks: Literal["prompt", "answer"]
    """For a new prompt and an answer to it, or for another answer alone."""
    tries: int
    seed: int
    write: Write

    def propose(self, jobs: Sequence[Job], attempt: int) -> list[Proposal | Failed | None]:
        """Return this attempt's proposal for each job, in order; None if there is nothing more to try."""
        if attempt >= self.tries:
            return [None for _ in jobs]
        keys = [f"{self.seed} {job.example.id} {job.operator} {attempt}" for job in jobs]
        prompts = (
            self._new_prompts(jobs, keys) if self.asks == "prompt" else [job.example.prompt[-1].content for job in jobs]
        )
        requests = [
            None if isinstance(prompt, Failed) else answer_prompt([*job.example.prompt[:-1], Message("user", prompt)])
            for job, prompt in zip(jobs, prompts, strict=True)
        ]
        answers = self._answers(requests, [f"{key} answer" for key in keys])
        return [
            prompt if isinstance(prompt, Failed) else self._proposal(job, prompt, next(answers))
            for job, prompt in zip(jobs, prompts, strict=True)
        ]

    def _new_prompts(self, jobs: Sequence[Job], keys: Sequence[str]) -> list[str | Failed]:
        """Return a new prompt for each job, or the reason why there is none."""
        puzzles = [bool(job.example.tests and not job.example.tests.run_programs) for job in jobs]
        requests = [None if puzzle else rewrite_prompt(job) for job, puzzle in zip(jobs, puzzles, strict=True)]
        answers = self._answers(requests, keys)
        why = Unfit(PUZZLE, "its verifier knows only the question as it stands")
        return [
            self._failed(job, why) if puzzle else self._new_prompt(job, next(answers))
            for job, puzzle in zip(jobs, puzzles, strict=True)
        ]

    def _new_prompt(self, job: Job, answer: Answer) -> str | Failed:
        prompt = _refusal(answer) or parse_new_prompt(answer.text)
        return self._failed(job, prompt, answer.text) if isinstance(prompt, Unfit) else prompt

    def _proposal(self, job: Job, prompt: str, answer: Answer) -> Proposal | Failed:
        example = _refusal(answer) or rewritten_example(job, prompt, answer.text)
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


def _refusal(answer: Answer) -> Unfit | None:
    return Unfit("the server refuses", answer.refused) if answer.refused else None
