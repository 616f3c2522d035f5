"""The values of ``edgefusion demo``: a small model verified, one step of the full one executed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefusion.cli.table import Column, Table, plain
from edgefusion.cli.verify import values_table
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.accuracy.gates import Gates
from edgefusion.toolchain.accuracy.report import db, verification_json
from edgefusion.toolchain.reporting.number_forms import decibels, seconds, whole

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle

SMALL_SOURCE = "tiny-test"
SMALL_PROMPTS = 8
SMALL_SCHEDULE = "pipelined"


_STEP = (
    Column("computed_by", "one U-Net step, computed by"),
    Column("seconds", "seconds", seconds),
    Column("load_s", "loading s", seconds),
    Column("instructions", "instructions", whole),
    Column("sqnr_db", "SQNR dB", decibels),
)


def verify_small(directory: Path, say: Say) -> dict[str, Any]:
    """Compile the small model with calibration, and verify it on a held-out prompt.

    The record of ``edgefusion verify``, beside the bundle and what calibrated it.
    """
    from edgefusion.api import compile_source, open_bundle
    from edgefusion.toolchain.accuracy.held_out import PROMPTS
    from edgefusion.toolchain.accuracy.verification import Request, verify_bundle
    from edgefusion.toolchain.compiling.workspace import open_workspace

    path = directory / f"{SMALL_SOURCE}-verified.npub"
    compile_source(
        SMALL_SOURCE,
        output=path,
        schedules=(SMALL_SCHEDULE,),
        work_dir=directory / "work",
        calibration_prompts=SMALL_PROMPTS,
        progress=say,
    )
    bundle = open_bundle(path)
    with open_workspace(directory / "work") as workspace:
        request = Request(
            PROMPTS[:1],
            layers=(),
            export=lambda source, component: workspace.export(source, component, {}, say),
        )
        found = verify_bundle(bundle, request, say)
    report = verification_json(found, Gates(), {})
    return {"calibration_prompts": SMALL_PROMPTS, **report}


def full_step(bundle: Bundle, say: Say) -> dict[str, Any]:
    """The first step of a held-out prompt by the NPU's program, and by ONNX Runtime in FP32 on the
    same inputs and the bundle's graph and weights.

    ``npu`` and ``onnxruntime_fp32`` have ``load_s`` and ``seconds``.
    """
    import torch

    from edgefusion.models.text_to_image import step_inputs
    from edgefusion.models.tokenization import ids_of
    from edgefusion.runtime.accuracy import sqnr_db
    from edgefusion.toolchain.accuracy.held_out import PROMPTS, SEED
    from edgefusion.toolchain.running.execution import (
        npu_executor,
        pipeline_of,
        prompt_reader,
        reference_network,
    )

    # 1. What the step is given
    config, sampling = pipeline_of(bundle)
    timestep = sampling.timesteps(bundle.manifest.steps)[0]
    ids = ids_of(prompt_reader(bundle, config, say)(PROMPTS[0]))
    say("text encoder in ONNX Runtime")
    encoded = {
        name: reference_network(bundle, name)({"input_ids": each}) for name, each in ids.items()
    }
    conditions = sampling.conditions(encoded)
    noise = torch.randn(sampling.latent_shape, generator=torch.Generator().manual_seed(SEED))
    inputs = step_inputs(noise.numpy(), timestep, conditions)

    # 2. ONNX Runtime
    say("U-Net in ONNX Runtime, loading")
    begin = time.perf_counter()
    reference = reference_network(bundle, "unet")
    loaded = time.perf_counter()
    say(f"U-Net in ONNX Runtime, timestep {timestep}")
    exact = reference(inputs)["noise_pred"]
    onnxruntime = {"load_s": loaded - begin, "seconds": time.perf_counter() - loaded}
    del reference

    # 3. The simulated NPU
    begin = time.perf_counter()
    program, executor = npu_executor(bundle, "unet", say=say)
    loaded = time.perf_counter()

    def progress(done: int, count: int) -> None:
        say(f"U-Net on the NPU, timestep {timestep}; instruction {done} of {count}")

    found = executor.run(inputs, progress=progress).outputs["noise_pred"]
    npu = {"load_s": loaded - begin, "seconds": time.perf_counter() - loaded}
    scales = bundle.manifest.component("unet").scales
    return {
        "bundle": str(bundle.path),
        "timestep": timestep,
        "prompt": PROMPTS[0],
        "seed": SEED,
        "calibration_prompts": len(scales.prompts),
        "calibration_timesteps": list(scales.timesteps),
        "calibration_evaluations": scales.evaluations,
        "instructions": len(program),
        "npu": npu,
        "onnxruntime_fp32": onnxruntime,
        "npu_over_onnxruntime": npu["seconds"] / onnxruntime["seconds"],
        "sqnr_db": db(sqnr_db(exact, found.reshape(exact.shape))),
    }


def value_lines(small: dict[str, Any], step: dict[str, Any]) -> list[str]:
    """The gist of both records."""
    npu, exact = step["npu"]["seconds"], step["onnxruntime_fp32"]["seconds"]
    step_line = (
        f"one U-Net step of {Path(step['bundle']).name}: {npu:.2f} s on the simulated NPU, "
        f"{exact:.2f} s in ONNX Runtime FP32 ({step['npu_over_onnxruntime']:.1f} x), "
        f"{decibels(step['sqnr_db'])} dB SQNR"
    )
    image = f"image {decibels(small['image_psnr_db'])} dB PSNR"
    return [f"{SMALL_SOURCE} verified: {image}; {small['gates']['verdict']}", step_line]


def value_tables(small: dict[str, Any], step: dict[str, Any]) -> list[Table]:
    """Both records as tables; their notes say how the scales came about."""
    checked = values_table(small, f"Values of {SMALL_SOURCE} against ONNX Runtime FP32")
    note = (
        f"{SMALL_SOURCE} was calibrated with {small['calibration_prompts']} prompts and verified "
        "with another. Images are measured by PSNR, all else by SQNR."
    )
    rows = [
        {
            "computed_by": "the NPU's program, every instruction checked",
            "instructions": step["instructions"],
            "sqnr_db": step["sqnr_db"],
            **step["npu"],
        },
        {
            "computed_by": "ONNX Runtime, FP32",
            "instructions": None,
            "sqnr_db": None,
            **step["onnxruntime_fp32"],
        },
    ]
    timesteps = plain(step["calibration_timesteps"])
    prompts = step["calibration_prompts"]
    about = (
        f"Both compute the same bundle's U-Net on the same inputs at timestep {step['timestep']}, "
        "once each. "
        f"INT16 scales come from {step['calibration_evaluations']} evaluations only: "
        f"{prompts} prompt{'s' if prompts > 1 else ''} at the deployed timesteps ({timesteps}); "
        "the prompt and the noise of this step are others. `edgefusion compile` takes 2 prompts "
        "unless told otherwise."
    )
    title = f"One step of {Path(step['bundle']).name}"
    return [
        Table(checked.title, checked.columns, checked.rows, note),
        Table(title, _STEP, rows, about),
    ]
