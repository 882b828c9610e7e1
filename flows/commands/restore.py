"""`ratchet restore`."""

from pathlib import Path
from typing import Annotated

import typer


def restore(
    source: Annotated[
        Path, typer.Argument(metavar="FROM", help="A file, a folder (its newest backup), or a manifest in a folder.")
    ],
    dry: Annotated[bool, typer.Option("--dry", help="Check every file of the backup, and write nothing.")] = False,
) -> None:
    """Restore a backup in a fresh clone.

    Files that are already in place stay; a file with other contents stops the restore. An interrupted restore resumes.

    Example: ratchet restore ../backups, or ratchet restore --dry ../today.zip
    """
    from flows.registry.backup import restoring
    from tasks.io.system import progress

    manifest = restoring.restore(source, dry=dry)
    if dry:
        progress.say(
            f"{source}: all {len(manifest.files)} files of {manifest.time} are as they were saved. Nothing was written."
        )
        return
    progress.say(f"{len(manifest.files)} files of {manifest.time} are in place.")
    for other in restoring.other_versions(manifest):
        progress.say(f"The backup was made with {other}. If its database is refused, install that version.")
    progress.say(f"Check them: {'' if manifest.with_outputs else 'dvc pull && '}ratchet verify")
