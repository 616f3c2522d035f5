"""``edgefusion``: finds the command, loads its file alone, and turns errors into exit codes.

Exit codes: 0 done, 1 a defect of ours, 2 usage, 3 bad input, 4 unsupported op, 5 does not fit or
over budget, 6 numeric gate, 7 regression, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from edgefusion import __version__
from edgefusion.cli.interruption import heed, listening
from edgefusion.cli.paths import guarded
from edgefusion.cli.wide import with_wide
from edgefusion.runtime.errors import DoesNotFitError, EdgeFusionError, InputError

COMMANDS = (
    "export",
    "compile",
    "simulate",
    "traffic",
    "sweep",
    "explore",
    "run",
    "verify",
    "inspect",
    "report",
    "diff",
    "bench",
    "alloc",
    "calibrate",
    "targets",
    "presets",
    "passes",
    "ops",
    "train",
    "data",
    "evaluate",
    "demo",
)
"""In the order of the help; each is ``edgefusion.cli.<name>``, whose ``app`` is a typer app."""
DEBUG_VARIABLE = "EDGEFUSION_DEBUG"
MARKUP: Literal["markdown"] = "markdown"
"""Of help texts: lines of a paragraph flow together."""


class LazyCommands(TyperGroup):
    """Commands whose files are imported when they are named: ``edgefusion targets`` does not wait
    for what ``compile`` needs."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # noqa: ARG002
        """The commands of this installation."""
        return [name for name in COMMANDS if find_spec(f"edgefusion.cli.{name}")]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command called ``cmd_name``, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = get_command(import_module(f"edgefusion.cli.{cmd_name}").app)
        command = guarded(with_wide(command))
        command.name = cmd_name
        command.rich_markup_mode = MARKUP
        return command


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    rich_markup_mode=MARKUP,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"edgefusion {__version__}\n")
        raise typer.Exit


@app.callback()
def _top(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Print the version."
    ),
) -> None:
    """Compile text-to-image diffusion checkpoints to a simulated phone NPU, time them, and see
    where every byte of DRAM traffic comes from.

    Begin with `edgefusion demo`, or `edgefusion compile bk-sdm-tiny -o tiny.npub`.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    with listening():
        _run(arguments)


def _run(arguments: Sequence[str] | None) -> NoReturn:
    try:
        get_command(app).main(
            args=None if arguments is None else list(arguments), prog_name="edgefusion"
        )
    except SystemExit:
        heed()
        raise
    except EdgeFusionError as error:
        _fail(error, error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        from edgefusion.runtime.files import disk_error

        told = disk_error(error)
        _fail(error, told.exit_code, str(told))
    except MemoryError as error:
        _fail(error, DoesNotFitError.exit_code, "the machine has not enough memory for this")
    except RecursionError as error:
        _fail(
            error,
            InputError.exit_code,
            "something that was read is nested more deeply than it can be understood. Check that "
            "the files named are what they are called.",
        )
    except Exception as error:  # noqa: BLE001  # the last resort: a defect, told in one line
        _fail(
            error,
            EdgeFusionError.exit_code,
            f"internal error, a defect of edgefusion: {type(error).__name__}: {error}. Run again "
            f"with {DEBUG_VARIABLE}=1 for the traceback, and report it.",
        )
    sys.exit(0)


def _fail(error: BaseException, code: int, text: str = "") -> NoReturn:
    """One paragraph on stderr; with EDGEFUSION_DEBUG=1 the traceback before it. Nothing where an
    end was asked for: a library that was interrupted may tell of it as an error of its own."""
    heed()
    if os.environ.get(DEBUG_VARIABLE) == "1":
        traceback.print_exception(error)
    paragraph = " ".join((text or str(error)).split())
    sys.stderr.write(f"edgefusion: error: {paragraph}\n")
    sys.exit(code)
