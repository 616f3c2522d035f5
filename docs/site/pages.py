"""Pages that are made from the code when the site is built, so that none of them can be wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, get_args

from pydantic import TypeAdapter
from typer.main import get_command

from edgefusion.cli.main import app
from edgefusion.runtime import errors
from edgefusion.runtime.machine import ENGINE_KEYS, Machine
from edgefusion.runtime.pipeline_roles import ROLE_PRECISION, ROLES
from edgefusion.runtime.target import STATUSES, TARGET_VERSION, load_target
from edgefusion.toolchain.accuracy import recipe
from edgefusion.toolchain.profiling import frames

_TARGET = "exynos2400"


def exit_codes() -> str:
    """One row a class of ``runtime.errors``."""
    rows = ["| 0 | done | |", "| 1 | a defect of ours, or output that nobody reads any more | |"]
    found = [
        each
        for each in vars(errors).values()
        if inspect.isclass(each)
        and issubclass(each, errors.EdgeFusionError)
        and each is not errors.EdgeFusionError
    ]
    rows += [
        f"| {each.exit_code} | {inspect.getdoc(each)} | `{each.__name__}` |"
        for each in sorted(found, key=lambda error: error.exit_code)
    ]
    rows += ["| 130 | interrupted (SIGINT) | |", "| 143 | terminated (SIGTERM) | |"]
    return _page(
        "Exit codes",
        "An error that a user can cause is one paragraph on stderr; in Python it is an exception "
        "of this class, importable from `edgefusion`, all of them below `EdgeFusionError`.",
        ["| code | meaning | exception |", "| --- | --- | --- |", *rows],
    )


def data_frames() -> str:
    """The columns of each frame."""
    parts = []
    for name, columns in frames.COLUMNS.items():
        call = "edgefusion.tiles(bundle, op)" if name == "tiles" else f"profile.{name}_frame()"
        parts += ["", f"## {name}", "", f"`{call}`", "", "| column | meaning |", "| --- | --- |"]
        parts += [f"| `{column}` | {meaning} |" for column, meaning in columns.items()]
    return _page("Columns of DataFrames", inspect.getdoc(frames) or "", parts)


def recipe_file() -> str:
    """The recipe's own words, and what its values can be."""
    table = ["| component | precision where nothing is said |", "| --- | --- |"]
    table += [f"| `{name}` | `{ROLE_PRECISION[role]}` |" for name, role in ROLES.items()]
    precisions = " or ".join(f"`{each}`" for each in get_args(recipe.Precision))
    return _page(
        "Recipe files",
        f"{inspect.getdoc(recipe)}\n\nA precision is {precisions}; an ONNX file that is no "
        "network of a pipeline is a `model`. `edgefusion compile --recipe FILE.toml` takes a "
        "recipe, `edgefusion verify --recipe-out FILE.toml` writes one: see "
        "[Quantization](quantization.md).",
        table,
    )


def target_file() -> str:
    """Every key of a target file: what it takes, and what the target that comes with it has."""
    target = load_target(_TARGET)
    values = target.machine.parameters()
    schema = TypeAdapter(Machine).json_schema()["properties"]
    rows = ["| key | takes | here | status | source |", "| --- | --- | --- | --- | --- |"]
    keys = [each.name for each in fields(Machine) if each.name not in ("name", "engines")]
    for key in [*ENGINE_KEYS, *keys]:
        found = values[key]
        entries = {key: found}
        if isinstance(found, dict):
            entries = {f"{key}.{name}": value for name, value in found.items()}
        for name, value in entries.items():
            origin = target.provenance[name]
            takes = "a whole number, 1 to 255" if key in ENGINE_KEYS else _takes(schema[key])
            rows.append(f"| `{name}` | {takes} | {value} | {origin.status} | {origin.source} |")
    return _page(
        "Target files",
        f"A target is a TOML file: `schema_version = {TARGET_VERSION}`, a `name`, a "
        "`description`, and in sections of any names every key below as `{ value = ..., status = "
        '"...", source = "..." }`. Units are in the keys; keys that are unknown or missing are '
        "errors. Entries of a table stand in a section of its name (`[vector.vector_cycles]`), "
        "and dotted names reach them from `--set` and `set=`.\n\n"
        f"`status` is one of {', '.join(STATUSES)}. `edgefusion targets {_TARGET} --toml` prints "
        "a complete file to begin with; see [What if](what_if.md).",
        ["", f"## {_TARGET}", "", target.description, "", *rows],
    )


def _takes(schema: dict[str, Any]) -> str:
    inner = schema.get("additionalProperties", schema)
    inner = inner if isinstance(inner, dict) else schema
    kinds = [inner, *inner.get("anyOf", [])]
    whole = {each["type"] for each in kinds if "type" in each} == {"integer"}
    limits = {key: value for each in kinds for key, value in each.items()}
    above = (
        "above 0" if "exclusiveMinimum" in limits else "0 or more" if "minimum" in limits else ""
    )
    return f"a {'whole ' if whole else ''}number{', ' if above else ''}{above}"


def command_line() -> str:
    """Help of all commands, as ``--help`` has it."""
    root = get_command(app)
    parts = []
    with root.make_context("edgefusion", [], resilient_parsing=True) as context:
        for name in root.list_commands(context):
            parts += _command(root.get_command(context, name), ("edgefusion", name), context, 2)
    return _page("Command line", inspect.cleandoc(root.help or ""), parts)


def _command(command: Any, names: tuple[str, ...], parent: Any, level: int) -> Iterator[str]:
    context = type(parent)(command, info_name=names[-1], parent=parent)
    title = " ".join(names[1:])
    usage = " ".join((*names, *command.collect_usage_pieces(context)))
    yield from ("", f"{'#' * level} {title}", "", "```", usage, "```", "")
    yield inspect.cleandoc(command.help or "")
    records = [each.get_help_record(context) for each in command.params if each.name != "help"]
    rows = [f"| `{record[0]}` | {_cell(record[1])} |" for record in records if record]
    if rows:
        yield from ("", "| option | meaning |", "| --- | --- |", *rows)
    for name in getattr(command, "commands", {}):
        inner = command.get_command(context, name)
        yield from _command(inner, (*names, name), context, level + 1)


def _cell(text: str) -> str:
    """A text within a table: no column of its own, and its brackets are no link."""
    return " ".join(text.split()).replace("|", "\\|").replace("[", "\\[")


def _page(title: str, text: str, lines: list[str]) -> str:
    return "\n".join([f"# {title}", "", text, "", *lines, ""])


PAGES: dict[str, Callable[[], str]] = {
    "command_line.md": command_line,
    "data_frames.md": data_frames,
    "exit_codes.md": exit_codes,
    "recipe_file.md": recipe_file,
    "target_file.md": target_file,
}
"""What makes each page."""
