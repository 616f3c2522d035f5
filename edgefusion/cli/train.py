"""``edgefusion train``: the distillations that make the deployed networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgefusion.cli.output import JsonOption, emit, progress
from edgefusion.cli.paths import Reads, WritesIn
from edgefusion.cli.table import Column, Table
from edgefusion.cli.train_miniature import miniature
from edgefusion.cli.train_settings import settings as list_settings

SCHEMA_VERSION = 1
_LONG = """

One process: as it stands. More: `torchrun --nproc-per-node 8 -m edgefusion train ...`.

The folder gets config.yaml (every setting), log.csv, validation/, checkpoints/ and, at the end,
pipeline/, which diffusers loads and `edgefusion compile` takes.

Examples: `edgefusion train settings kd`; `edgefusion train kd -o adv-tiny --set teacher=./teacher
--set data.path=L-pps`; `edgefusion train kd -o adv-tiny --resume`.
"""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Distil the networks that are deployed." + _LONG,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings: .toml, .yaml or .yml."),
    Reads(),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, over those of the file."),
]
FolderOption = Annotated[
    Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the run."), WritesIn()
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on from the last whole checkpoint, if there is one.")
]
_COLUMNS = (Column("key", "setting"), Column("value", "value", str))

app.command()(miniature)
app.command("settings")(list_settings)


@app.command()
def kd(
    folder: FolderOption,
    config: ConfigOption = None,
    settings: SetOption = None,
    resume: ResumeOption = False,
    json_to: JsonOption = None,
) -> None:
    """Block-removed distillation: BK-SDM Base, Small or Tiny from a larger U-Net.

    Examples: `edgefusion train kd -o adv-tiny --set teacher=./Realistic_Vision_V5.1
    --set data.path=L-pps`; `edgefusion train kd -o adv-tiny --config adv-tiny/config.yaml
    --resume`.
    """
    from edgefusion.models.training.settings import KdSettings

    _train(KdSettings, folder, config, settings, resume, json_to)


@app.command()
def lcm(
    folder: FolderOption,
    config: ConfigOption = None,
    settings: SetOption = None,
    resume: ResumeOption = False,
    json_to: JsonOption = None,
) -> None:
    """Latent-consistency distillation: a student of one to four steps, from any checkpoint.

    Example: `edgefusion train lcm -o edgefusion-1 --set student=adv-tiny/pipeline
    --set teacher=./Realistic_Vision_V5.1 --set data.path=L-pps-and-synt`.
    """
    from edgefusion.models.training.settings import LcmSettings

    _train(LcmSettings, folder, config, settings, resume, json_to)


@app.command()
def decoder(
    folder: FolderOption,
    config: ConfigOption = None,
    settings: SetOption = None,
    resume: ResumeOption = False,
    json_to: JsonOption = None,
) -> None:
    """Decoder distillation: a narrower image decoder, on pairs of latent and image.

    Example: `edgefusion train decoder -o small-decoder --set teacher=bk-sdm/pipeline
    --set data.path=synt --set width=0.5`.
    """
    from edgefusion.models.training.settings import DecoderSettings

    _train(DecoderSettings, folder, config, settings, resume, json_to)


def _train(
    kind: Any,
    folder: Path,
    config: Path | None,
    overrides: list[str] | None,
    resume: bool,
    json_to: str | None,
) -> None:
    from edgefusion.models.training.session import run_training
    from edgefusion.models.training.settings_file import load_settings

    settings = load_settings(kind, config, overrides or ())
    with progress() as say:
        pipeline = run_training(settings, folder, resume=resume, say=say)
    document = {
        "schema_version": SCHEMA_VERSION,
        "teacher": settings.teacher,
        "steps": settings.run.steps,
        "log": str(folder / "log.csv"),
        "pipeline": str(pipeline),
    }
    rows = [
        {"key": key, "value": value} for key, value in document.items() if key != "schema_version"
    ]
    emit([Table(f"Trained {folder}", _COLUMNS, rows)], lambda: document, json_to=json_to)
