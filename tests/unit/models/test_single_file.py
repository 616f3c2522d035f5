"""Checkpoints in one file, against the folder they are of; other files are told what they are."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgefusion import compile_source, open_bundle
from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.source import Source, resolve_source
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.toolchain.accuracy.float_reference import source_of
from tests.model_folders import pipeline_folder, xl_pipeline_folder
from tests.original_layout import single_file
from tests.torch_pipeline import torch_picture

UNET, VAE = "model.diffusion_model.out.2.bias", "first_stage_model.decoder.conv_in.bias"
CLIP = "cond_stage_model.transformer.text_model.final_layer_norm.bias"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ((UNET, VAE, CLIP),
         r"whole Stable Diffusion v1 in one file .*expected model_index.json beside it"),
        ((UNET, VAE, "cond_stage_model.model.ln_final.bias"), "whole Stable Diffusion v2 in one"),
        ((UNET, VAE, "conditioner.embedders.1.model.ln_final.bias"),
         r"whole Stable Diffusion XL .*: StableDiffusionXLPipeline.from_single_file\('a.safet"),
        ((UNET, CLIP), r"no checkpoint that is known here.*model.diffusion_model\. and first"),
        ((UNET, VAE, "text_encoders.clip_l.transformer.bias"), "the first found are first_stage_"),
        (("lora_unet_conv_in.lora_up.weight",), r"is a LoRA.*--lora .*a.safetensors\.$"),
        (("unet.conv_in.lora_A.weight",), r"is a LoRA"),
        (("conv_in.weight", "conv_in.bias"), "weights of one component.*model_index.json"),
        (("text_model.final_layer_norm.bias",), "weights of one component"),
        (("weight",), "the first found are weight"),
        ((), "the first found are none"),
    ],
)  # fmt: skip
def test_a_file_is_told_what_it_is(keys: tuple[str, ...], told: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({key: torch.ones(1) for key in keys}, path)
    with pytest.raises(InputError, match=told) as error:
        resolve_source(str(path))
    assert str(path) in str(error.value)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"x" * 20)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        resolve_source(str(path))


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_nothing_of_a_pickle_is_read(suffix: str, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (tmp_path / "executed").touch, ()

    path = tmp_path / f"model{suffix}"
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(InputError, match="A pickle may run code where it is loaded"):
        resolve_source(str(path))
    assert not (tmp_path / "executed").exists()


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("x")
    with pytest.raises(InputError, match=r"type \(none\); expected an .onnx file"):
        resolve_source(str(path))


FORMS = {
    "v1": (pipeline_folder, {}),
    "v2": (pipeline_folder, {"open_clip": True}),
    "xl": (xl_pipeline_folder, {}),
}


@pytest.fixture(scope="module", params=FORMS)
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole folder, and in ``one/`` the same without weights and with a file of all."""
    make, options = FORMS[request.param]
    folder = make(tmp_path_factory.mktemp(request.param))
    one = folder.parent / "one"
    shutil.copytree(folder, one, ignore=shutil.ignore_patterns("*.safetensors"))
    single_file(resolve_source(str(folder)), one / "model.safetensors", **options)
    return folder


@pytest.fixture
def file(pipeline: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(pipeline.parent / "one", tmp_path / "one")) / "model.safetensors"


def checked(path: Path, *loras: str) -> tuple[Source, str]:
    said: list[str] = []
    source = checked_source(resolve_source(str(path), loras=loras), None, said.append)
    return source, "\n".join(said)


def test_a_file_has_the_weights_of_the_folder(pipeline: Path, file: Path) -> None:
    whole, (source, said) = checked(pipeline)[0], checked(file)
    assert (source.kind, source.name, source.components) == ("file", "model", whole.components)
    assert source.sizes == whole.sizes
    assert "not read" not in said
    for component in whole.components:
        weights, others = (s.load(component).state_dict() for s in (source, whole))
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_file_draws_the_picture_of_the_folder(pipeline: Path, file: Path) -> None:
    pictures = [torch_picture(checked(each)[0], "a b a", 2, 3) for each in (pipeline, file)]
    assert (pictures[0] == pictures[1]).all()
    assert pictures[0].std() > 10


def test_half_precision_is_computed_with_in_full(pipeline: Path, file: Path) -> None:
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file)
    rounded = checked(file)[0].load("unet").state_dict()
    wanted = checked(pipeline)[0].load("unet").state_dict()
    assert all(torch.equal(rounded[name], wanted[name].half().float()) for name in wanted)


def test_the_digest_is_of_file_and_configurations(file: Path) -> None:
    digest = resolve_source(str(file)).digest
    (file.parent / "other.safetensors").write_bytes(b"")
    assert resolve_source(str(file)).digest == digest, "not read"
    config = file.parent / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text() + " ")
    changed = resolve_source(str(file)).digest
    assert changed != digest
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    assert resolve_source(str(file)).digest != changed


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("model.diffusion_model.out.2.bias", None, "not in the files, first conv_out.bias"),
        ("model.diffusion_model.input_blocks.1.0.in_layers.2.bias", None,
         r"not in the files, first down_blocks.0.resnets.0.conv1.bias"),
        ("first_stage_model.decoder.mid.attn_1.q.bias", None, r"attentions.0.to_q.bias"),
        ("model.diffusion_model.out.2.bias", torch.ones(5), r"out.bias: \[5\], expected \[4\]"),
        ("model.diffusion_model.middle_block.0.more.bias", torch.ones(5), "first mid_block.res"),
    ],
)  # fmt: skip
def test_weights_that_are_not_those_of_the_configuration(
    old: str, new: torch.Tensor | None, told: str, file: Path
) -> None:
    weights = load_file(file)
    if new is None:
        del weights[old]
    else:
        weights[old] = new
    save_file(weights, file)
    with pytest.raises(InputError, match=told) as error:
        checked(file)
    assert str(error.value).startswith(str(file))


def test_a_file_of_another_family_than_its_folder(pipeline: Path, file: Path) -> None:
    xl = "text_encoder_2" in checked(pipeline)[0].components
    other = "cond_stage_model.transformer." if xl else "conditioner.embedders.0.transformer."
    weights = {re.sub(r"^(cond_stage|cond\w+\.emb\w+).*", f"{other}x", name): tensor
               for name, tensor in load_file(file).items()}  # fmt: skip
    save_file(weights, file)
    title = "XL" if xl else "v1 or v2"
    with pytest.raises(InputError, match=rf"model_index.json beside it is of .*{title}\."):
        resolve_source(str(file))


def test_a_bundle_of_a_file(pipeline: Path, file: Path, tmp_path: Path) -> None:
    """With the folder's weights, and its tokenizer."""
    made = [
        compile_source(
            each, output=tmp_path / f"{number}.npub", components="unet", calibration_prompts=0
        )
        for number, each in enumerate((pipeline, file))
    ]
    first, second = (open_bundle(*result.bundles.values()) for result in made)
    assert second.manifest.source.kind == "file"
    assert second.manifest.source.digest != first.manifest.source.digest
    assert first.manifest.members == second.manifest.members
    assert any("tokenizer" in name for name in second.manifest.members)
    source = source_of(second, str(file), lambda _: None)
    assert source is not None
    assert source.file == file
    with pytest.raises(UsageError, match="no weight files to choose among"):
        resolve_source(str(file), variant="fp16")
    before = file.read_bytes()
    with pytest.raises(UsageError):
        compile_source(file, output=file, components="unet")
    assert file.read_bytes() == before


def test_a_tokenizer_that_is_not_beside_the_file_is_told(file: Path) -> None:
    shutil.rmtree(file.parent / "tokenizer")
    with pytest.raises(InputError, match="names the tokenizer CLIPTokenizer"):
        checked(file)
