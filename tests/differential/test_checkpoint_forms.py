"""Checkpoints in the forms that people have them: each gives the weights and the picture that the
whole folder in full precision gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgefusion import compile_source, open_bundle
from edgefusion.models.export import export_component
from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.source import Source, resolve_source
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.toolchain.accuracy.float_reference import source_of
from tests.model_folders import pipeline_folder, xl_pipeline_folder
from tests.torch_pipeline import torch_picture

PROMPT, STEPS, SEED = "a b a a b", 2, 5
SMALL = "20KB"
"""Of which the U-Nets and autoencoders make several."""

MAKERS: dict[str, Callable[[Path], Path]] = {
    "stable-diffusion": pipeline_folder,
    "stable-diffusion-xl": xl_pipeline_folder,
}
FORMS: dict[str, Mapping[str, Any]] = {
    "fp16": {"variant": "fp16"},
    "fp16-shards": {"variant": "fp16", "max_shard_size": SMALL},
    "shards": {"max_shard_size": SMALL},
    "pickles": {"safe_serialization": False},
    "pickled-shards": {"safe_serialization": False, "max_shard_size": SMALL},
}
"""What diffusers is asked to save, all with weights that FP16 holds."""


@pytest.fixture(scope="module", params=MAKERS)
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``full`` as it was made, ``whole`` with weights rounded to FP16, and each of FORMS."""
    from diffusers import DiffusionPipeline

    place = tmp_path_factory.mktemp(request.param)
    MAKERS[request.param](place / "made").rename(place / "full")
    pipeline: Any = DiffusionPipeline.from_pretrained(place / "full", local_files_only=True)
    pipeline.to(torch.float16)
    for name, options in FORMS.items():
        pipeline.to(torch.float16 if "variant" in options else torch.float32)
        pipeline.save_pretrained(place / name, **options)
    pipeline.to(torch.float32).save_pretrained(place / "whole")
    return place


def checked(folder: Path, **options: Any) -> tuple[Source, str]:
    said: list[str] = []
    source = checked_source(resolve_source(str(folder), **options), None, said.append)
    return source, "\n".join(said)


def same_weights(first: Source, second: Source) -> None:
    for component in first.components:
        weights, others = (s.load(component).state_dict() for s in (first, second))
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_has_the_weights_of_the_whole_folder(folders: Path, form: str) -> None:
    names = {path.name for path in (folders / form / "unet").iterdir()}
    assert any("-of-" in name for name in names) == ("shards" in form)
    assert any(".fp16" in name for name in names) == ("fp16" in form)
    source, said = checked(folders / form)
    assert "not read" not in said
    assert source.load("unet").get_parameter("conv_in.weight").dtype == torch.float32
    same_weights(source, checked(folders / "whole")[0])


def test_the_picture_of_fp16_is_that_of_full_precision(folders: Path) -> None:
    full = torch_picture(checked(folders / "full")[0], PROMPT, STEPS, SEED).astype(int)
    half = torch_picture(checked(folders / "fp16-shards")[0], PROMPT, STEPS, SEED).astype(int)
    assert full.std() > 10
    # Weights are off by 2^-12 of themselves on average: a step of 255, rarely two.
    assert np.abs(full - half).max() <= 2
    assert (full != half).mean() < 0.2


def test_the_compiled_graph_has_the_weights_of_the_module(folders: Path, tmp_path: Path) -> None:
    files = []
    for form in ("fp16-shards", "whole"):
        path = export_component(checked(folders / form)[0], "unet", tmp_path / form)
        files.append((path.read_bytes(), path.with_name(f"{path.name}.data").read_bytes()))
    assert files[0] == files[1]


@pytest.fixture
def both(folders: Path, tmp_path: Path) -> Path:
    """Full precision, and fp16 beside it of other weights."""
    place = Path(shutil.copytree(folders / "full", tmp_path / "both"))
    return Path(shutil.copytree(folders / "fp16", place, dirs_exist_ok=True))


def test_full_precision_goes_before_fp16(folders: Path, both: Path) -> None:
    source, said = checked(both)
    same_weights(source, checked(folders / "full")[0])
    assert (
        "unet: weights from diffusion_pytorch_model.safetensors, for full precision goes before "
        "fp16 (--variant fp16 takes that); not read: diffusion_pytorch_model.fp16.safetensors"
    ) in said
    assert "text_encoder: weights from model.safetensors, for full precision goes" in said


def test_a_variant_that_is_asked_for_is_taken(folders: Path, both: Path) -> None:
    source, said = checked(both, variant="fp16")
    same_weights(source, checked(folders / "fp16")[0])
    assert "unet: weights from diffusion_pytorch_model.fp16.safetensors; not read:" in said
    assert source.digest != resolve_source(str(both)).digest, "other weights"


def test_a_variant_that_is_not_there_is_refused(folders: Path) -> None:
    with pytest.raises(InputError, match=r"holds .*; expected .*ema.*for --variant ema was given"):
        checked(folders / "full", variant="ema")
    with pytest.raises(UsageError, match=r"--variant ../x: expected the word between the dots"):
        checked(folders / "full", variant="../x")
    with pytest.raises(UsageError, match="tiny-test, which has no weight files to choose among"):
        resolve_source("tiny-test", variant="fp16")


def test_another_variant_alone_is_told_by_name(folders: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(folders / "fp16", tmp_path / "other"))
    for path in (place / "unet").glob("*.safetensors"):
        path.rename(path.with_name(path.name.replace("fp16", "bf16")))
    with pytest.raises(InputError, match=r"the variant bf16; expected .*--variant bf16"):
        checked(place)


def test_a_shard_that_is_missing_or_elsewhere_is_told(folders: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(folders / "fp16-shards", tmp_path / "shards"))
    index = place / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json"
    content = json.loads(index.read_text())
    first = min(content["weight_map"].values())
    (place / "unet" / first).rename(tmp_path / first)
    with pytest.raises(InputError, match=rf"names {first}, which is not beside it"):
        checked(place)
    moved = {k: f"../../{first}" if v == first else v for k, v in content["weight_map"].items()}
    index.write_text(json.dumps(content | {"weight_map": moved}))
    with pytest.raises(InputError, match=rf"names {first}, which is not beside it"):
        checked(place)


def test_a_bundle_says_its_variant_and_verify_finds_the_source(both: Path, tmp_path: Path) -> None:
    made = compile_source(
        both, output=tmp_path / "b.npub", variant="fp16", components="unet", calibration_prompts=0
    )
    (path,) = made.bundles.values()
    bundle = open_bundle(path)
    assert bundle.manifest.source.variant == "fp16"
    source = source_of(bundle, str(both), lambda _: None)
    assert source is not None
    stored = load_file(both / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    loaded = source.load("unet").state_dict()
    assert all(torch.equal(stored[name].float(), loaded[name]) for name in stored)
