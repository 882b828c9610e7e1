"""Serve the page on 127.0.0.1 until Ctrl-C."""

import secrets
from contextlib import suppress

import uvicorn

from flows.execution import ports
from flows.review_page import app
from flows.review_page.entries import Turn
from tasks.io import review_decisions
from tasks.io.system import progress


def run(turn: Turn, author: str, port: int) -> None:
    """Serve until Ctrl-C; of a turn that did not run yet, what there is to review of the data. The address has a token that is new each time.

    Raises RuntimeError if the port is taken, FileNotFoundError if nothing ran that there is to review.
    """
    wanted, turn = turn, turn.present()
    if wanted.name != turn.name:
        progress.say(f"The turn {wanted.name} did not run to its end yet: there are no rewrites to review.")
    if turn.name:
        review_decisions.check_name(turn.decisions("proposed"))
    turn.entries(turn.views[0])  # an error is told here, and not on the page
    files = {str(turn.decisions(view)) for view in turn.views}
    token = secrets.token_urlsafe(24)
    with ports.listen(port, "ratchet review --web") as listener:
        address = f"http://{ports.HOST}:{listener.getsockname()[1]}/{token}/"
        progress.say(
            f"{address} has what to review of {turn.name or 'the data'}. Ctrl-C ends it; `ratchet run` honours what was decided."
        )
        config = uvicorn.Config(
            app.application(turn, author, token), lifespan="off", log_level="critical", server_header=False
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
    progress.say(f"The page is closed. Decisions are in {', '.join(sorted(files))}.")
