"""`ratchet rollback`."""

from typing import Annotated

import typer


def rollback(
    to: Annotated[int, typer.Option(min=1, help="The version, as `ratchet status` numbers it.")],
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
) -> None:
    """Put an earlier version back in place: the alias, and models/champion, its files checked by their hashes.

    Example: ratchet rollback --to 3 --reason "answers in French"
    """
    from flows import promotion
    from tasks.io import progress

    promotion.rollback(to, reason)
    progress.say(f"Version {to} is in place: models/champion. What was promoted stays the bar for what comes.")
