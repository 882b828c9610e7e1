"""`python -m tasks.run STAGE [ITEM]`, which is what dvc.yaml calls: run a stage, in a child of the fork server where one serves.

Needs the standard library alone until it is known that this very process runs the stage (`tasks.runner`).
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
