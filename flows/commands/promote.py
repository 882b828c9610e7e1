"""`ratchet promote`."""


def promote() -> None:
    """Judge the candidate, and put it in place if it passes.

    It is judged against the champion and all that was ever promoted.

    Example: ratchet run, then ratchet promote
    """
    from flows.registry import history, promotion
    from tasks.io.system import progress

    decision = promotion.promote()
    past = history.read()
    progress.say(f"version {decision.version} ({decision.name}): {past.outcome(decision)}")
    for cause in decision.reason.split("; "):
        progress.say(f"  {cause}")
    progress.say(
        f"Look {decision.look} against {'version ' + str(decision.champion) if decision.champion else 'the model that all began with'}, "
        f"judged at a level of {decision.level:.2g} of {decision.rules.alpha:g}. "
        f"In place now: {past.in_place}. Commit {history.HISTORY} to keep the decision."
    )
