"""``edgefusion train settings``: what a training can be told."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from edgefusion.cli.output import CsvOption, JsonOption, emit
from edgefusion.cli.table import Column, Table, plain

Kind = Literal["kd", "lcm", "decoder"]
_REQUIRED = "(required)"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else plain(value)


_COLUMNS = (
    Column("key", "setting"),
    Column("default", "default", _shown),
    Column("accepts", "accepts"),
    Column("meaning", "meaning"),
)


def settings(
    kind: Annotated[Kind, typer.Argument(help="Which training.")],
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """List the settings of a training, with defaults and meanings.

    As JSON it is a JSON Schema, by which editors check and complete files of settings.

    Examples: `edgefusion train settings kd`; `edgefusion train settings lcm --json schema.json`.
    """
    from edgefusion.models.training.settings import DecoderSettings, KdSettings, LcmSettings
    from edgefusion.models.training.settings_guide import settings_guide, settings_schema

    dataclass = {"kd": KdSettings, "lcm": LcmSettings, "decoder": DecoderSettings}[kind]
    rows = [
        {**asdict(guide), "default": _REQUIRED if guide.required else guide.default}
        for guide in settings_guide(dataclass)
    ]
    table = Table(f"Settings of train {kind}", _COLUMNS, rows)
    emit([table], lambda: settings_schema(dataclass), json_to=json_to, csv_to=csv_to)
