"""`ratchet promote`."""


def promote() -> None:
    """Judge the candidate against the champion and all that was ever promoted, and put it in place if it passes.

    Example: ratchet run, then ratchet promote
    """
    from flows import history, promotion
    from tasks.io import progress

    found = promotion.promote()
    past = history.read()
    progress.say(f"version {found.version} ({found.name}): {past.outcome(found)}")
    for cause in found.reason.split("; "):
        progress.say(f"  {cause}")
    progress.say(
        f"Look {found.look} against {'version ' + str(found.champion) if found.champion else 'the model that all began with'}, "
        f"judged at a level of {found.level:.2g} of {found.rules.alpha:g}. "
        f"In place now: {past.in_place}. Commit {history.HISTORY} to keep the decision."
    )
