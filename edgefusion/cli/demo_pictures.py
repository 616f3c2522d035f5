"""The pictures of ``edgefusion demo``: the miniature in FP32 and on the simulated NPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgefusion.cli.table import Column, Table
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.accuracy.report import db
from edgefusion.toolchain.reporting.number_forms import decibels

SOURCE = "miniature"
STEPS = 2
CALIBRATION_PROMPTS = 8
PROMPTS = (
    "a small red circle on blue",
    "a large green square in the middle on white",
    "a small yellow triangle on the left on black",
    "a large purple circle on the right on grey",
    "a small white cross in the middle on black",
    "a large red triangle on white",
    "a small blue square on the right on grey",
    "a large yellow cross on the left on blue",
)
_ENLARGED = 4

_COLUMNS = (
    Column("prompt", "prompt", str),
    Column("psnr_db", "PSNR, NPU against FP32, dB", decibels),
)


def draw_pictures(directory: Path, say: Say) -> dict[str, Any]:
    """Compile the miniature, and draw PROMPTS with its programs and with diffusers in FP32.

    The pictures go side by side into one image, the record's ``grid``.
    """
    import numpy as np

    from edgefusion.api import compile_source
    from edgefusion.models.image_grid import image_grid
    from edgefusion.models.pipeline_generator import pipeline_generator
    from edgefusion.models.source import resolve_source
    from edgefusion.runtime.accuracy import psnr_db
    from edgefusion.runtime.files import disk_errors, replacing
    from edgefusion.toolchain.running.bundle_generator import bundle_generator
    from edgefusion.toolchain.running.drawing import Wishes

    path, output = directory / f"{SOURCE}.npub", directory / f"{SOURCE}.png"
    result = compile_source(
        SOURCE,
        output=path,
        steps=STEPS,
        work_dir=directory / "work",
        calibration_prompts=CALIBRATION_PROMPTS,
        progress=say,
    )
    folder = resolve_source(SOURCE).path
    assert folder is not None
    seeds = range(len(PROMPTS))
    say(f"{SOURCE}: {len(PROMPTS)} pictures in FP32")
    exact = pipeline_generator(folder, steps=STEPS, guidance=1.0)(PROMPTS, seeds)
    say(f"{SOURCE}: {len(PROMPTS)} pictures on the NPU")
    found = bundle_generator(path, Wishes(STEPS), say=say)(PROMPTS, seeds)
    with replacing((output,), Kind.PNG) as (partial,), disk_errors(output):
        rows = list(zip(exact, found, strict=True))
        grid = image_grid(rows, labels=PROMPTS, titles=("FP32", "NPU, W8A16"), enlarged=_ENLARGED)
        grid.save(partial, format="PNG")
    pictures = [
        {"prompt": prompt, "psnr_db": db(psnr_db(np.asarray(a, float), np.asarray(b, float)))}
        for prompt, a, b in zip(PROMPTS, exact, found, strict=True)
    ]
    (latency,) = result.latencies.values()
    return {
        "bundle": str(path),
        "grid": str(output),
        "steps": STEPS,
        "latency_ms": latency.total_ms,
        "pictures": pictures,
    }


def picture_table(record: dict[str, Any]) -> Table:
    """The pictures with how near the NPU's are to FP32's."""
    note = (
        f"{record['steps']} denoising steps, {record['latency_ms']:.3f} ms a picture on the NPU. "
        f"Side by side in {record['grid']}."
    )
    return Table("Pictures of the miniature", _COLUMNS, record["pictures"], note)
