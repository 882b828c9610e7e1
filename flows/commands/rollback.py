"""`ratchet rollback`."""

from typing import Annotated

import typer


def rollback(
    to: Annotated[int, typer.Option(min=0, help="The version, as `ratchet status` numbers it; 0 for no version.")],
    reason: Annotated[str, typer.Option(help="The reason, which the history keeps.")] = "",
) -> None:
    """Put an earlier version back in place.

    Sets the alias and models/champion; its files are checked by their hashes.

    Example: ratchet rollback --to 3 --reason "answers in French"
    """
    from flows.registry import promotion
    from tasks.io.system import progress

    promotion.rollback(to, reason)
    placed = f"Version {to} is in place: models/champion." if to else "No version is in place: models/champion is gone."
    progress.say(f"{placed} Candidates are still judged against every promoted version.")
