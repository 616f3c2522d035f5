"""Small pipelines of the systems made for phones, executed, against ONNX Runtime in FP32."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgefusion

SQNR_DB = 55.0
"""Of latents, against the bundle's own graph: INT16 activations."""
ATTENTION = {"tiny-test-mobilediffusion": 0, "tiny-test-snapfusion": 28, "tiny-test-choi": 32}
"""Fused ones of the U-Net; MobileDiffusion's, of ReLU, are products of matrices."""


@pytest.mark.parametrize(
    "preset",
    [
        "tiny-test-mobilediffusion",
        # Networks of diffusers, whose blocks other tests execute.
        pytest.param("tiny-test-snapfusion", marks=pytest.mark.full),
        pytest.param("tiny-test-choi", marks=pytest.mark.full),
    ],
)
def test_values_are_those_of_onnx_runtime(preset: str, tmp_path: Path) -> None:
    output = tmp_path / "small.npub"
    edgefusion.compile_source(
        preset, output=output, schedules="serial", steps=1, calibration_prompts=8
    )
    bundle = edgefusion.open_bundle(output)
    found = edgefusion.verify(bundle, layers=(), min_sqnr_db=SQNR_DB, host="ort")
    found.check()
    gated = {row["value"] for row in found.document["values"] if row["gate_db"] == SQNR_DB}
    assert gated == {"latent"}
    network = bundle.network("unet")
    assert sum(op.kind.name == "attention" for op in network.ops) == ATTENTION[preset]
    # What the timestep decides is looked up; all else is the NPU's.
    hosted = bundle.manifest.component("unet").host_ops
    looked_up = {op.reason for op in hosted if not op.op.startswith("timestep_")}
    assert all("Gather" in reason or "the host has made" in reason for reason in looked_up)
