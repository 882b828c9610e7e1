"""Ask git about the workspace's files and commits."""

import os
import shutil
import subprocess
from pathlib import Path


def run(*arguments: str) -> bytes:
    """Run a git command and return its output. Raises ValueError with git's message if it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    if done.returncode:
        raise ValueError(f"git {arguments[0]}: {done.stderr.decode().strip()}")
    return done.stdout


def file_at(revision: str, path: Path) -> str:
    """Return the text of a file of this folder at a revision. Raises ValueError with git's message if there is none."""
    commit = run("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    return run("show", f"{commit}:./{path.as_posix()}").decode()


def commit() -> str:
    """Return the commit that is checked out, or `none`."""
    return _answer("rev-parse", "--verify", "--quiet", "HEAD") or "none"


def branch() -> str:
    """Return the branch that is checked out; empty if none is."""
    return _answer("branch", "--show-current")


def names(command: str, *arguments: str) -> list[str]:
    """Return the files that a git command lists, relative to this folder. Raises ValueError with git's message if it fails."""
    return [
        name for name in os.fsdecode(run(command, "-z", *arguments)).split("\0") if name
    ]  # names may contain any bytes


def origin() -> str:
    """Return the address of the remote `origin`; empty if there is none."""
    return _answer("config", "remote.origin.url")


def is_repository() -> bool:
    """Return True if the current folder is in a git repository."""
    return _succeeds("rev-parse", "--git-dir")


def has_commit(name: str) -> bool:
    """Return True if this repository has a commit."""
    return _succeeds("cat-file", "-e", f"{name}^{{commit}}")


def has_unpushed_commits() -> bool:
    """Return True if the checked-out commit, or one before it, is on no remote."""
    return commit() != "none" and run("rev-list", "--count", "HEAD", "--not", "--remotes").strip() != b"0"


def has_own_commits(branch: str, commit: str) -> bool:
    """Return True if a branch of this repository has commits that are neither on a remote nor in the history of `commit`."""
    ref = f"refs/heads/{branch}"
    held = ["--remotes", *([commit] if has_commit(commit) else [])]
    return _succeeds("show-ref", "--verify", "--quiet", ref) and bool(
        run("rev-list", "--max-count=1", ref, "--not", *held)
    )


def unpushed_branches() -> list[str]:
    """Return the other branches, and `stash`, with commits that are neither on a remote nor in the history of the checked-out commit."""
    if commit() == "none":
        return []
    refs = run("for-each-ref", "--format=%(refname)", "refs/heads", "refs/stash").decode().split()
    own = [ref for ref in refs if run("rev-list", "--max-count=1", ref, "--not", "--remotes", "HEAD")]
    return [ref.removeprefix("refs/").removeprefix("heads/") for ref in own]


def user_name() -> str:
    """Return git's `user.name`; empty if it has none."""
    return _answer("config", "user.name")


def is_committed(path: Path) -> bool:
    """Return True if the last commit has this file unchanged."""
    return _succeeds("ls-files", "--error-unmatch", str(path)) and _succeeds("diff", "--quiet", "HEAD", "--", str(path))


def is_ignored(path: Path) -> bool:
    """Return True if a .gitignore rule excludes this file. False without git."""
    return _succeeds("check-ignore", "--quiet", "--", str(path))


def has_changes(path: Path) -> bool:
    """Return True if a commit of this file would record a change. False without git."""
    return bool(_answer("status", "--porcelain", "--", str(path)))


def untracked(folder: Path) -> list[Path]:
    """Return the files in a folder that git does not track, including ignored ones."""
    return [Path(name) for name in _answer("ls-files", "--others", "-z", "--", str(folder)).split("\0") if name]


def workspace_files() -> list[Path]:
    """Return the files that git tracks or would add, edited or not."""
    return [path for path in _workspace_entries() if path.is_file()]


def workspace_links() -> list[Path]:
    """Return the links to folders that git tracks or would add."""
    return [path for path in _workspace_entries() if path.is_symlink() and path.is_dir()]


def _workspace_entries() -> list[Path]:
    return [Path(name) for name in names("ls-files", "--cached", "--others", "--exclude-standard")]


def _answer(*arguments: str) -> str:
    """Return the output of a git command; empty if it fails or git is not installed."""
    if shutil.which("git") is None:
        return ""
    return os.fsdecode(subprocess.run(["git", *arguments], capture_output=True, check=False).stdout).strip()


def _succeeds(*arguments: str) -> bool:
    return (
        shutil.which("git") is not None
        and not subprocess.run(["git", *arguments], capture_output=True, check=False).returncode
    )
