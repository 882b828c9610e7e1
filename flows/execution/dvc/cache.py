"""Synchronise outputs and DVC's cache: check, check out, link, find a file by its hash, push to the remote."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.execution.dvc import cli, repository
from tasks.core.text.visible import without_passwords

if TYPE_CHECKING:
    from dvc.stage import Stage

WRONG = {"deleted": "is missing", "modified": "was changed by hand", "not in cache": "is not in DVC's cache"}
"""DVC's status of an output → its description for people."""
GONE = "not in DVC's cache. `dvc gc` took it, or the cache of another machine has it."
REMOTE = "store"
"""The name of the remote that `ratchet share` sets."""


def folder() -> Path:
    """Return the folder of DVC's cache, from DVC's configuration."""
    from dvc.config import Config

    return Path(Config(".dvc", validate=False)["cache"].get("dir") or ".dvc/cache").resolve()


def file(digest: str) -> Path:
    """Return the file with this hash in DVC's cache. Raises FileNotFoundError if the cache lacks it."""
    with repository.opened() as repo:
        path = Path(repo.cache.local.oid_to_path(digest))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {GONE}")
    return path


def place_of(path: Path) -> str:
    """Return the path within DVC's cache that a file with these contents has, whether it is there or not."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return f"files/md5/{digest[:2]}/{digest[2:]}"


def files(outputs: Mapping[str, str]) -> dict[str, Path]:
    """Return the files of outputs in DVC's cache, with each file of a folder: path → file. `outs` maps path to hash.

    Raises FileNotFoundError if the cache lacks one.
    """
    with repository.opened() as repo:
        locate = repo.cache.local.oid_to_path
        digests: dict[str, str] = {}
        for path, digest in outputs.items():
            if not digest.endswith(".dir"):
                digests[path] = digest
                continue
            listing = json.loads(_present(Path(locate(digest)), path).read_text(encoding="utf-8"))
            digests |= {f"{path}/{member['relpath']}": member["md5"] for member in listing}
        return {path: _present(Path(locate(digest)), path) for path, digest in digests.items()}


def _present(file: Path, path: str) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"{path}: {GONE}")
    return file


def check_outputs() -> tuple[int, dict[str, str]]:
    """Return the number of outputs in dvc.yaml, and what is wrong with those that differ from dvc.lock: path → problem.

    Every file is read, because DVC's own state trusts a file that has kept its size, time and inode.
    """
    from dvc_data.hashfile.state import StateNoop

    with repository.opened() as repo:
        repo.cache.local.state = StateNoop()
        stages = repository.ordered_stages(repo)[1]
        problems = {path: problem for stage in stages for path, problem in output_problems(stage).items()}
        return sum(len(stage.outs) for stage in stages), problems


def output_problems(stage: "Stage") -> dict[str, str]:
    """Return what is wrong with those outputs of a stage that differ from dvc.lock: path → problem."""
    lacking = "is a new output" if has_run(stage) else "has no hash in dvc.lock"
    problems = {str(out): lacking for out in stage.outs if not out.hash_info}
    for out in stage.outs:
        if out.hash_info:
            problems |= {path: WRONG[status] for path, status in out.status().items() if status in WRONG}
    return problems


def has_run(stage: "Stage") -> bool:
    """Return True if dvc.lock has the hash of anything that a stage reads or writes."""
    return any(part.hash_info for part in (*stage.deps, *stage.outs))


def settled_outputs() -> dict[str, str]:
    """Return the outputs that DVC's cache holds completely, so that they need no other copy: path → hash. In the workspace each is as
    dvc.lock says, or missing.
    """
    with repository.opened() as repo:
        outs = [out for stage in repository.ordered_stages(repo)[1] for out in stage.outs]
        return {
            str(out): out.hash_info.value
            for out in outs
            if out.use_cache and out.hash_info and set(out.status().values()) <= {"deleted"}
        }


def objects(digests: Iterable[str]) -> dict[str, Path]:
    """Return the files of DVC's cache that make up outputs with these hashes, by their paths in the cache. Missing files are left out."""
    with repository.opened() as repo:
        locate = repo.cache.local.oid_to_path
        wanted: set[str] = set()
        for digest in digests:
            wanted.add(digest)
            listing = Path(locate(digest))
            if digest.endswith(".dir") and listing.is_file():
                wanted |= {member["md5"] for member in json.loads(listing.read_text(encoding="utf-8"))}
        paths = [path for path in sorted(Path(locate(digest)) for digest in wanted) if path.is_file()]
    place = folder()
    return {path.resolve().relative_to(place).as_posix(): path for path in paths}


def missing_in_remote() -> list[str]:
    """Return the outputs of dvc.lock that DVC's remote lacks. Raises ValueError if there is no remote or it does not answer."""
    with repository.opened() as repo:
        return sorted(str(name) for name in repo.status(cloud=True))


def checkout(stages: Sequence[str]) -> None:
    """Put the outputs of these stages in place, as dvc.lock has them. Raises FileNotFoundError if DVC's cache lacks one."""
    from dvc.exceptions import CheckoutError

    with repository.opened() as repo:
        try:
            repo.checkout(targets=list(stages), force=True)
        except CheckoutError as error:
            raise FileNotFoundError(f"{', '.join(error.target_infos)}: {GONE}") from None


def relink(stages: Sequence[str]) -> None:
    """Link the outputs of these stages to DVC's cache, so that they share its bytes, if the file system allows it.

    When DVC commits a folder it leaves copies behind: a model would take its space on disk twice.
    """
    if stages:
        with repository.opened() as repo:
            # DVC reads dvc.lock once for a target graph, and once for each target stage.
            all_ran = {stage.addressing for stage in repo.index.stages} <= {*stages}
            repo.checkout(targets=["dvc.yaml"] if all_ran else list(stages), relink=True)


def has_remote() -> bool:
    """Return True if DVC's configuration names a remote to push to."""
    with repository.opened() as repo:
        return bool(repo.config["core"].get("remote"))


def set_remote(address: str) -> None:
    """Make an address the remote that DVC pushes to. Raises ValueError if it holds a password or web user: git tracks it."""
    if without_passwords(address) != address:
        raise ValueError(
            f"{without_passwords(address)}: the address contains a user or a password, and git tracks .dvc/config. Leave them out, and set them locally: "
            f"dvc remote modify --local {REMOTE} user …, and password …"
        )
    cli.run("remote", "add", "--quiet", "--default", "--force", REMOTE, address)


def push() -> None:
    """Push all outputs and the run cache to the remote. Raises RuntimeError, with what to do, if the push fails."""
    try:
        cli.run("push", "--run-cache")
    except RuntimeError as error:
        raise RuntimeError(
            f"{error} What was uploaded is kept, and the same command continues from there. Keys and passwords belong in .dvc/config.local "
            "(`dvc remote modify --local …`) or in the environment."
        ) from None
