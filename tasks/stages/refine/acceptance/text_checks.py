"""Checks that read a proposal's text: its length, protected text, and links and code that are in none of its sources."""

import re

from tasks.core.records import Unfit
from tasks.stages.refine.config import Acceptance
from tasks.stages.refine.example_text import as_text
from tasks.stages.refine.proposals import Proposal

LINK = re.compile(r"\b(?:https?|ftp|file|data|javascript):\S+|\bwww\.\S+", re.IGNORECASE)


def check_length(proposal: Proposal, config: Acceptance) -> Unfit | None:
    """Reject a proposal that is much longer or shorter than its parent. A new example (`extend`) may be much shorter."""
    old, new = proposal.job.example, proposal.example
    for side, before, after in (
        ("prompt", len(as_text(old.prompt)), len(as_text(new.prompt))),
        ("response", len(old.response), len(new.response)),
    ):
        change = f"the {side} went from {before} to {after} characters"
        if after > max(config.free, config.length * before):
            return Unfit("too long", change)
        if before > max(config.free, config.length * after) and proposal.job.operator != "extend":
            return Unfit("too short", change)
    return None


def check_protected_text(proposal: Proposal, config: Acceptance) -> Unfit | None:
    """Reject a proposal whose prompt lost a text that must stay."""
    old, new = as_text(proposal.job.example.prompt), as_text(proposal.example.prompt)
    for pattern in config.protected:
        lost = {match.group() for match in re.finditer(pattern, old)}
        lost -= {match.group() for match in re.finditer(pattern, new)}
        if lost:
            return Unfit("protected text lost", ", ".join(sorted(lost))[:200])
    return None


def check_foreign_content(proposal: Proposal) -> Unfit | None:
    """Reject a proposal with links, or with code blocks, that neither its parent nor the hints have."""
    parents = [proposal.job.example, *proposal.job.hints]
    old = "\n".join(message.content for parent in parents for message in parent.messages)
    new = "\n".join(message.content for message in proposal.example.messages)
    if links := set(LINK.findall(new)) - set(LINK.findall(old)):
        return Unfit("brings a link", ", ".join(sorted(links))[:200])
    if "```" in new and "```" not in old:
        return Unfit("brings code", "nothing it was made from has any")
    return None
