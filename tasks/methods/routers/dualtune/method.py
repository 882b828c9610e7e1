"""Functions of the router by the choice of a tool. Its equation and the legend of symbols are in the card, `__init__.py`."""

from collections import Counter
from collections.abc import Collection, Sequence

from tasks.core.answers.tool_choice import ANSWER, SELECT, chosen, task_of
from tasks.core.records import Unfit
from tasks.methods.routers import Asked, Router, Specialists
from tasks.methods.routers.dualtune.config import DualtuneConfig


def elected(texts: Sequence[str], members: Collection[str]) -> str:
    """Return the task that most of the choices name. Choices that cannot be read, and tools without an adapter, do not count."""
    choices = [chosen(text, spelt_out=True) for text in texts]
    named = [task_of(tool) if tool else ANSWER for tool in choices if not isinstance(tool, Unfit)]
    votes = Counter(task for task in named if task == ANSWER or task in members)
    return max(votes, key=votes.__getitem__, default=ANSWER)  # the first of equal ones


def route(asked: Asked, bank: Specialists, config: DualtuneConfig) -> Sequence[str | None]:
    """Return the adapter of the tool that the selection adapter chooses. Items of the selection task itself go to the selection adapter.

    Raises ValueError for a bank without one.
    """
    if SELECT not in bank.names:
        raise ValueError(
            f"evaluate.router: dualtune asks the adapter `{SELECT}` for a tool, and the bank has {', '.join(bank.names)}. Train it on examples of "
            "`ingest.sources` with `calls: decoupled`, or take another router."
        )
    tasks = list(asked.tasks)
    places = [place for place, task in enumerate(tasks) if task != SELECT]
    if places:
        drawn = asked.write(
            SELECT,
            places,
            samples=config.votes,
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
        )
        for place, texts in zip(places, drawn, strict=True):
            tasks[place] = elected(texts, bank.names)
    return [task if task in bank.names else None for task in tasks]


METHOD = Router(route=route)
