"""The report as one HTML file: page, style, script, data and Plotly's library, all in it.

It loads nothing: it works from a disk, without a network. Names of ops and tensors come from
models that others made, so they are escaped wherever they stand: by the template in the page, as
``\\u003c`` in the data, and by ``charts`` in what Plotly shows.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from math import inf
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.file_kinds import Kind, kind_of
from edgefusion.runtime.files import disk_errors
from edgefusion.toolchain.reporting.number_forms import (
    decibels,
    megabytes,
    milliseconds,
    percent,
    quantity,
    ratio,
    whole,
)
from edgefusion.toolchain.reporting.page.charts import CAUSES, ENGINES, charts
from edgefusion.toolchain.reporting.page.document import comparison

SHOWN = 15
"""Rows of a chart's bars and of tables of tensors; the rest is one row."""
_MEDIA = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"GIF8", "image/gif"))


def html_report(
    documents: Sequence[Mapping[str, Any]], title: str, images: Sequence[tuple[str, str]] = ()
) -> str:
    """The page of one bundle's document, or of several side by side; ``images`` are names and
    data URIs (``image_uri``)."""
    pages = files("edgefusion.toolchain.reporting.page").joinpath("parts")

    def page(name: str) -> str:
        return pages.joinpath(name).read_text(encoding="utf-8")

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    environment.filters |= {
        "ms": milliseconds,
        "mb": megabytes,
        "n": whole,
        "pc": percent,
        "x": ratio,
    }
    environment.filters |= {"num": quantity, "db": decibels, "raw": _raw}
    environment.filters |= {"list_head": lambda name: (name, "num"), "worst": _worst}
    environment.filters["component_us"] = lambda part: part["evaluations"] * part["total_us"]
    data = {
        "colours": {"engines": ENGINES, "causes": CAUSES},
        "bundles": [
            {"document": document, "charts": charts(document, SHOWN)} for document in documents
        ],
    }
    return environment.from_string(page("report.html")).render(
        title=title,
        documents=documents,
        compared=comparison(documents) if len(documents) > 1 else [],
        images=images,
        shown=SHOWN,
        colours=data["colours"],
        style=Markup(page("style.css")),  # our own files, not from a model
        script=Markup(page("report.js")),
        plotly=Markup(get_plotlyjs()),
        data=Markup(script_json(data)),
    )


def script_json(value: Any) -> str:
    """JSON that may stand in a ``<script>`` element, whatever its texts are."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def image_uri(path: Path) -> str:
    """An image file as a data URI. Raises InputError for what is none."""
    with disk_errors(path):
        if not path.is_file():
            raise InputError(f"{path} is no file; expected an image, as PNG or JPEG.")
        kind, content = kind_of(path), path.read_bytes()
    media = next((name for magic, name in _MEDIA if content.startswith(magic)), "image/webp")
    if kind not in (Kind.PNG, Kind.IMAGE):
        raise InputError(f"{path} is {kind.value}; expected an image, as PNG or JPEG.")
    return f"data:{media};base64,{base64.b64encode(content).decode('ascii')}"


def _worst(layers: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """Those of ``count`` layers that have the least SQNR alone; those without an error are last."""

    def alone(row: Mapping[str, Any]) -> float:
        value = row["isolated_sqnr_db"]
        return inf if value is None else float(value)

    return sorted(layers, key=alone)[:count]


def _raw(value: Any) -> str:
    """For sorting: the number itself, and nothing, which sorts last, for None."""
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)
