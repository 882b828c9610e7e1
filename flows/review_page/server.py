"""Serve the page on 127.0.0.1 until Ctrl-C."""

import secrets
from contextlib import suppress
from urllib.parse import urlencode

import uvicorn

from flows.execution import ports
from flows.review_page import app
from flows.review_page.entries import Turn, View
from flows.review_page.filters import Filters, matching
from tasks.io import review_decisions
from tasks.io.system import progress


def run(turn: Turn, author: str, port: int, *, refused: bool = False, start: int = 1) -> None:
    """Serve until Ctrl-C; of a turn that did not run yet, what there is to review of the data. The address has a token that is new each time,
    and begins at row `start` of those that nobody has decided: with `refused`, of the rewrites that were refused.

    Raises RuntimeError if the port is taken, FileNotFoundError if nothing ran that there is to review.
    """
    wanted, turn = turn, turn.present()
    if wanted.name != turn.name:
        progress.say(f"The turn {wanted.name} did not run to its end yet: there are no rewrites to review.")
    if turn.name:
        review_decisions.check_name(turn.decisions("proposed"))
    turn.entries(turn.views[0])  # an error is reported here, not on the page
    files = {str(turn.decisions(view)) for view in turn.views}
    token, query = secrets.token_urlsafe(24), _query(turn, refused=refused, start=start)
    with ports.listen(port, "ratchet review --web") as listener:
        address = f"http://{ports.HOST}:{listener.getsockname()[1]}/{token}/{query}"
        progress.say(
            f"{address} has what to review of {turn.name or 'the data'}. Ctrl-C ends it; `ratchet run` applies the decisions."
        )
        config = uvicorn.Config(
            app.application(turn, author, token), lifespan="off", log_level="critical", server_header=False
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
    progress.say(f"The page is closed. Decisions are in {', '.join(sorted(files))}.")


def _query(turn: Turn, *, refused: bool, start: int) -> str:
    """Return the query string of the page that begins at this row; empty for the first row of the first view."""
    view: View = "refused" if refused and "refused" in turn.views else turn.views[0]
    values = {"view": str(view)} if view != turn.views[0] else {}
    if start > 1 and (waiting := matching(turn.entries(view), Filters(view=view), turn.history(view))):
        values["after"] = waiting[min(start - 1, len(waiting)) - 1].id
    return f"?{urlencode(values)}" if values else ""
