"""Every kind of SOURCE resolves, and every damaged one is an error that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgefusion.models.architectures import PRESETS
from edgefusion.models.families.registry import STABLE_DIFFUSION
from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.source import Source, resolve_source
from edgefusion.runtime.errors import InputError, UsageError


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder as diffusers writes it, of tiny-test's shapes."""
    folder = tmp_path_factory.mktemp("pipelines") / "tiny-pipeline"
    tiny = PRESETS["tiny-test"]
    torch.manual_seed(7)
    tiny.networks["text_encoder"].build().save_pretrained(folder / "text_encoder")
    tiny.networks["unet"].build().save_pretrained(folder / "unet")
    tiny.networks["vae_decoder"].build().save_pretrained(folder / "vae")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "text_encoder": ["transformers", "CLIPTextModel"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "pipeline"))


def unet_weights(folder: Path) -> Path:
    return folder / "unet" / "diffusion_pytorch_model.safetensors"


def test_the_shipped_checkpoint_goes_by_its_name() -> None:
    source = resolve_source("miniature")
    assert (source.kind, source.name, source.components) == (
        "folder",
        "miniature",
        STABLE_DIFFUSION.components,
    )
    assert source.load("unet").config["in_channels"] == 48
    with pytest.raises(UsageError, match="brings its own weights"):
        resolve_source("miniature", random_weights_seed=1)


def test_preset_weights_depend_on_the_seed_alone() -> None:
    first = resolve_source("tiny-test", random_weights_seed=3)
    assert (first.kind, first.components, first.seed) == ("preset", STABLE_DIFFUSION.components, 3)
    again, other = resolve_source("tiny-test", random_weights_seed=3), resolve_source("tiny-test")
    assert first.digest == again.digest != other.digest
    weights, same, different = (
        source.load("text_encoder").state_dict() for source in (first, again, other)
    )
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert not any(
        torch.equal(weights[name], different[name])
        for name in weights
        if "position_ids" not in name
    )


@pytest.mark.parametrize("component", STABLE_DIFFUSION.components)
def test_random_weights_are_distinct_and_ready_to_run(component: str) -> None:
    module = resolve_source("tiny-test").load(component)  # type: ignore[arg-type]
    parameters = dict(module.named_parameters())
    assert not module.training
    assert all(p.dtype == torch.float32 and p.device.type == "cpu" for p in parameters.values())
    assert len({p.detach().numpy().tobytes() for p in parameters.values()}) == len(parameters)


def test_folder_gives_its_own_weights(folder: Path) -> None:
    source = resolve_source(str(folder))
    assert (source.kind, source.components) == ("folder", STABLE_DIFFUSION.components)
    stored = load_file(unet_weights(folder))
    loaded = source.load("unet").state_dict()
    assert all(torch.equal(stored[name], loaded[name]) for name in stored)
    stored = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    decoder = source.load("vae_decoder").state_dict()
    assert torch.equal(stored["post_quant_conv.weight"], decoder["post_quant_conv.weight"])
    assert torch.equal(stored["decoder.conv_in.weight"], decoder["decoder.conv_in.weight"])
    assert not [name for name in decoder if name.startswith("encoder")]
    assert source.load("text_encoder").get_parameter("final_layer_norm.bias").dtype == torch.float32


def test_folder_in_half_precision_loads_as_float32(folder: Path) -> None:
    path = unet_weights(folder)
    save_file(
        {name: tensor.half() for name, tensor in load_file(path).items()},
        path.with_name("diffusion_pytorch_model.fp16.safetensors"),
        metadata={"format": "pt"},
    )
    path.unlink()
    module = resolve_source(str(folder)).load("unet")
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_digest_sees_one_changed_byte_and_no_hidden_file(folder: Path) -> None:
    digest = resolve_source(str(folder)).digest
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("x")
    assert resolve_source(str(folder)).digest == digest
    path = unet_weights(folder)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert resolve_source(str(folder)).digest != digest


def test_missing_component_folder(folder: Path) -> None:
    shutil.rmtree(folder / "unet")
    with pytest.raises(InputError, match=r"no folder unet/"):
        resolve_source(str(folder))


def test_index_damaged(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"unet": ')
    with pytest.raises(InputError, match=r"model_index.json cannot be read"):
        resolve_source(str(folder))


def test_folder_without_index(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model_index.json cannot be read"):
        resolve_source(str(tmp_path))


def test_unsupported_class(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["diffusers", "AutoencoderDC"]
    (folder / "model_index.json").write_text(json.dumps(index))
    source = resolve_source(str(folder))
    assert source.components == ("text_encoder", "unet")
    with pytest.raises(InputError, match=r"AutoencoderDC .* expected AutoencoderKL"):
        checked_source(source, None, lambda _: None)


def test_missing_weights(folder: Path) -> None:
    unet_weights(folder).unlink()
    with pytest.raises(InputError, match=r"holds no weights"):
        resolve_source(str(folder)).load("unet")


@pytest.mark.parametrize("kept_bytes", [0, 5, 3000, 100_000])
def test_truncated_weights(folder: Path, kept_bytes: int) -> None:
    path = unet_weights(folder)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(InputError, match=r"not a whole safetensors file"):
        resolve_source(str(folder)).load("unet")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_not_finite(folder: Path, bad: float) -> None:
    path = unet_weights(folder)
    weights = load_file(path)
    weights["conv_in.weight"].view(-1)[5] = bad
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"conv_in.weight holds 1 NaN or infinite"):
        resolve_source(str(folder)).load("unet")


def test_weight_left_out(folder: Path) -> None:
    path = unet_weights(folder)
    weights = load_file(path)
    del weights["conv_in.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"conv_in.weight"):
        resolve_source(str(folder)).load("unet")


def test_weights_of_another_shape(folder: Path) -> None:
    path = unet_weights(folder)
    weights = load_file(path)
    weights["conv_in.weight"] = torch.zeros(16, 4, 3, 3)
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"conv_in.weight"):
        resolve_source(str(folder)).load("unet")


def test_config_damaged(folder: Path) -> None:
    (folder / "text_encoder" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"text_encoder cannot be loaded"):
        resolve_source(str(folder)).load("text_encoder")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no-such-preset", r"neither a file or folder here, nor a preset \(sd-v1.4, .*miniature\)"),
        ("bk-sdm-tinny", r"Did you mean bk-sdm-tiny or "),
        ("minature", r"Did you mean miniature\?"),
        ("nobody/no-such-pipeline", "cannot be fetched from the hub"),
        ("missing/graph.onnx", "there is no file or folder missing/graph.onnx"),
        ("my-pipelin", r"Did you mean my-pipeline\?"),
        ("./my-pipelin", r"no file or folder \./my-pipelin\. Did you mean \./my-pipeline\?"),
        ("./elsewhere", r"no file or folder \./elsewhere\. Check the spelling"),
        ("../elsewhere/", r"no file or folder \.\./elsewhere/\. Check the spelling"),
        ("models/my-pipelin/", r"Did you mean models/my-pipeline\?"),
        ("models/net", r"Did you mean models/net.onnx\?"),
        ("models/net.onx", r"Did you mean models/net.onnx\?"),
    ],
)
def test_source_not_found(
    text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path / "my-pipeline", tmp_path / "models" / "my-pipeline"):
        place.mkdir(parents=True)
        (place / "model_index.json").touch()
    (tmp_path / "models" / "net.onnx").touch()
    (tmp_path / "models" / "nex").mkdir()  # no source
    with pytest.raises(InputError, match=reason) as told:
        resolve_source(text)
    assert ("hub either" in str(told.value)) is text.startswith("nobody")


def test_file_of_another_type(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"type .ckpt; expected an .onnx"):
        resolve_source(str(path))


def test_seed_beside_real_weights(folder: Path) -> None:
    with pytest.raises(UsageError, match="brings its own weights"):
        resolve_source(str(folder), random_weights_seed=0)


def test_component_the_source_has_not() -> None:
    networks = PRESETS["tiny-test"]
    source = Source("preset", "tiny-test", ("unet",), seed=0, architecture=networks)
    with pytest.raises(UsageError, match="no torch component vae_decoder; it holds unet"):
        source.load("vae_decoder")
