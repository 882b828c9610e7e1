"""Run a stage: dvc.yaml calls `python -m tasks.run STAGE [ITEM]`. It runs in a child of the fork server if there is one.

This module imports only the standard library, until it is clear that this process must run the stage itself (`tasks.runner`).
"""

import sys

from tasks.forkserver import client


def main(arguments: list[str]) -> int:
    """Run one stage, and return the exit code: 0 if its outputs are in place."""
    code = client.run(arguments)
    if code is None and client.start_for_driver():
        code = client.run(arguments)
    if code is not None:
        return code
    from tasks import runner

    return runner.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
