"""LoRA files in the formats that people have them, against the definition and against diffusers."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from edgefusion import compile_source, open_bundle
from edgefusion.models.export import export_component
from edgefusion.models.lora import Lora
from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.source import Source, resolve_source
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.toolchain.accuracy.float_reference import source_of
from tests.model_folders import pipeline_folder, xl_pipeline_folder

Tensors = dict[str, torch.Tensor]
BLOCK = "attentions.0.transformer_blocks.0"
UNET = (
    *(f"down_blocks.{{down}}.{BLOCK}.attn1.{name}" for name in ("to_q", "to_v", "to_out.0")),
    f"mid_block.{BLOCK}.attn2.to_k",
    f"up_blocks.0.{BLOCK}.ff.net.0.proj",
    "up_blocks.0.attentions.0.proj_in",
    "mid_block.resnets.0.conv1",
    "mid_block.resnets.0.time_emb_proj",
)
TEXT = tuple(
    f"encoder.layers.0.{name}" for name in ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1")
)


@dataclass(frozen=True)
class Family:
    make: Callable[[Path], Path]
    down: int
    """The block whose attention changes."""
    encoders: tuple[str, ...]


FAMILIES = {
    "sd": Family(pipeline_folder, 0, ("text_encoder",)),
    "xl": Family(xl_pipeline_folder, 1, ("text_encoder", "text_encoder_2")),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family.make(tmp_path_factory.mktemp("lora"))


@dataclass(frozen=True)
class Part:
    """One module's matrices and alpha."""

    component: str
    module: str
    down: torch.Tensor
    up: torch.Tensor
    alpha: float

    @property
    def change(self) -> torch.Tensor:
        """By the definition, as convolutions in sequence where it is one."""
        scale = self.alpha / self.down.shape[0]
        if self.down.ndim == 4:
            return scale * torch.einsum("or,rihw->oihw", self.up.flatten(1), self.down)
        return scale * self.up @ self.down


@pytest.fixture(scope="module")
def parts(family: Family, folder: Path) -> list[Part]:
    """Of ranks 2 and 3, with alphas that are neither 1 nor the rank."""
    source, found = resolve_source(str(folder)), []
    generator = torch.Generator().manual_seed(3)
    wanted = {"unet": [name.format(down=family.down) for name in UNET]}
    wanted |= {encoder: list(TEXT) for encoder in family.encoders}
    for component, modules in wanted.items():
        weights = source.load(component).state_dict()
        for number, module in enumerate(modules):
            weight = weights.get(f"{module}.weight", weights.get(f"text_model.{module}.weight"))
            assert weight is not None, module
            rank, kernel = 2 + number % 2, [1] * (weight.ndim - 2)
            down = torch.randn((rank, *weight.shape[1:]), generator=generator)
            up = torch.randn((weight.shape[0], rank, *kernel), generator=generator)
            found.append(Part(component, module, down, up, 1.5 + number % 2))
    return found


def kohya(parts: list[Part], family: Family) -> Tensors:
    made = {}
    for part in parts:
        prefix = {"unet": "lora_unet", "text_encoder": "lora_te", "text_encoder_2": "lora_te2"}
        name = prefix[part.component]
        if part.component == "text_encoder" and len(family.encoders) > 1:
            name = "lora_te1"
        name += "_text_model_" if part.component != "unet" else "_"
        name += part.module.replace(".", "_")
        made[f"{name}.lora_down.weight"] = part.down
        made[f"{name}.lora_up.weight"] = part.up
        made[f"{name}.alpha"] = torch.tensor(part.alpha)
    return made


def sgm(parts: list[Part], family: Family) -> Tensors:
    """As kohya's trainer names the blocks of XL, with one layer in each; v1's have other names."""
    made = kohya(parts, family)
    if len(family.encoders) == 1:
        return made
    blocks = {
        "down_blocks_1_attentions_0": "input_blocks_3_1",
        "mid_block_attentions_0": "middle_block_1",
        "mid_block_resnets_0_conv1": "middle_block_0_in_layers_2",
        "mid_block_resnets_0_time_emb_proj": "middle_block_0_emb_layers_1",
        "up_blocks_0_attentions_0": "output_blocks_0_1",
    }
    for ours, theirs in blocks.items():
        made = {key.replace(ours, theirs): tensor for key, tensor in made.items()}
    return made


def peft(parts: list[Part], _: Family) -> Tensors:
    """Without alphas, so with these in the weights."""
    made = {}
    for part in parts:
        inner = "" if part.component == "unet" else "text_model."
        name = f"{part.component}.{inner}{part.module}"
        made[f"{name}.lora_A.weight"] = part.down
        made[f"{name}.lora_B.weight"] = part.up * part.alpha / part.down.shape[0]
    return made


def processors(parts: list[Part], _: Family) -> Tensors:
    """As diffusers wrote the attention of U-Nets before peft: linear attention layers alone."""
    made = {}
    for part in (p for p in parts if ".attn" in p.module):
        at, name = part.module.rsplit(".to_", 1)
        name = f"unet.{at}.processor.to_{name.removesuffix('.0')}_lora"
        made[f"{name}.down.weight"] = part.down
        made[f"{name}.up.weight"] = part.up * part.alpha / part.down.shape[0]
    return made


FORMATS = {"kohya": kohya, "sgm": sgm, "peft": peft, "processors": processors}


def stored(tensors: Tensors, path: Path, metadata: Mapping[str, Any] | None = None) -> Path:
    if path.suffix == ".bin":
        torch.save(tensors, path)
    else:
        header = {"lora_adapter_metadata": json.dumps(metadata)} if metadata else {}
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, {"format": "pt", **header})
    return path


def expected(folder: Path, parts: list[Part], component: str, scale: float) -> Tensors:
    weights = resolve_source(str(folder)).load(component).state_dict()
    changed = {name: tensor.clone() for name, tensor in weights.items()}
    for part in parts:
        if part.component == component:
            name = f"{part.module}.weight"
            name = name if name in changed else f"text_model.{name}"
            changed[name] += scale * part.change
    return changed


def same(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


def checked(folder: Path, *loras: str) -> tuple[Source, str]:
    said: list[str] = []
    source = checked_source(resolve_source(str(folder), loras=loras), None, said.append)
    return source, "\n".join(said)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_lora_is_fused_by_its_definition(
    form: str, suffix: str, folder: Path, family: Family, parts: list[Part], tmp_path: Path
) -> None:
    path = stored(FORMATS[form](parts, family), tmp_path / f"style{suffix}")
    source, _ = checked(folder, f"{path}:0.6")
    whole = [part for part in parts if form != "processors" or ".attn" in part.module]
    for component in ("unet", *family.encoders):
        changed = expected(folder, whole, component, 0.6)
        same(source.load(component).state_dict(), changed)
    base = resolve_source(str(folder)).load("vae_decoder").state_dict()
    same(source.load("vae_decoder").state_dict(), base)


def test_two_loras_add_up(folder: Path, family: Family, parts: list[Part], tmp_path: Path) -> None:
    path = stored(kohya(parts, family), tmp_path / "a.safetensors")
    source, _ = checked(folder, str(path), f"{path}:-0.25")
    same(source.load("unet").state_dict(), expected(folder, parts, "unet", 0.75))


@pytest.mark.parametrize("root", [False, True])
def test_alphas_in_the_header_count(
    root: bool, folder: Path, family: Family, parts: list[Part], tmp_path: Path
) -> None:
    """As peft writes them: one for all, and others by module."""
    plain = [Part(p.component, p.module, p.down, p.up, p.down.shape[0]) for p in parts]
    own = parts[0].module
    metadata = {
        "unet.r": 2,
        "unet.lora_alpha": 5,
        "unet.alpha_pattern": {own: 7},
        "unet.use_rslora": root,
    }
    path = stored(peft(plain, family), tmp_path / "a.safetensors", metadata)
    power = 0.5 if root else 1
    told = [
        Part(p.component, p.module, p.down, p.up, (7 if p.module == own else 5) * p.down.shape[0]
             / p.down.shape[0] ** power)
        for p in parts
        if p.component == "unet"
    ]  # fmt: skip
    source, _ = checked(folder, str(path))
    same(source.load("unet").state_dict(), expected(folder, told, "unet", 1.0))


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")
@pytest.mark.parametrize("form", FORMATS)
def test_fused_weights_are_those_of_diffusers(
    form: str, folder: Path, family: Family, parts: list[Part], tmp_path: Path
) -> None:
    from diffusers import DiffusionPipeline

    # One alpha: of several, diffusers applies the commonest to attention, whatever the file says.
    alike = [replace(part, alpha=1.5) for part in parts]
    path = stored(FORMATS[form](alike, family), tmp_path / "style.safetensors")
    pipeline: Any = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.load_lora_weights(tmp_path, weight_name=path.name)
    pipeline.fuse_lora(lora_scale=0.6)
    pipeline.unload_lora_weights()
    source, _ = checked(folder, f"{path}:0.6")
    for component in ("unet", *family.encoders):
        theirs = getattr(pipeline, component).state_dict()
        same(source.load(component).state_dict(), theirs)


def test_the_export_has_the_fused_weights(
    folder: Path, family: Family, parts: list[Part], tmp_path: Path
) -> None:
    """As that of a folder that was saved with them."""
    from diffusers import UNet2DConditionModel

    path = stored(kohya(parts, family), tmp_path / "a.safetensors")
    source, _ = checked(folder, str(path))
    fused = Path(shutil.copytree(folder, tmp_path / "fused"))
    unet: Any = UNet2DConditionModel.from_pretrained(fused / "unet")
    unet.load_state_dict(source.load("unet").state_dict())
    unet.save_pretrained(fused / "unet")
    files = []
    for each, name in ((source, "a"), (resolve_source(str(fused)), "b")):
        graph = export_component(each, "unet", tmp_path / name)
        files.append((graph.read_bytes(), graph.with_name(f"{graph.name}.data").read_bytes()))
    assert files[0] == files[1]


def test_the_digest_depends_on_file_and_scale(
    folder: Path, family: Family, parts: list[Part], tmp_path: Path
) -> None:
    path = stored(kohya(parts, family), tmp_path / "a.safetensors")
    other = stored(kohya(parts[1:], family), tmp_path / "b.safetensors")
    given = [(), (f"{path}",), (f"{path}:0.5",), (f"{other}",), (f"{path}", f"{other}")]
    digests = {resolve_source(str(folder), loras=loras).digest for loras in given}
    assert len(digests) == len(given)
    same_again = resolve_source(str(folder), loras=(f"{path}:1.0",)).digest
    assert same_again == resolve_source(str(folder), loras=(f"{path}",)).digest


Change = Callable[[Tensors], Tensors]


def renamed(old: str, new: str) -> Change:
    return lambda tensors: {key.replace(old, new): value for key, value in tensors.items()}


def without(part: str) -> Change:
    return lambda tensors: {key: value for key, value in tensors.items() if part not in key}


def more(key: str) -> Change:
    return lambda tensors: {**tensors, key: torch.ones(2)}


def resized(part: str) -> Change:
    return lambda tensors: {
        key: torch.cat([value, value], 1) if part in key and "lora_down" in key else value
        for key, value in tensors.items()
    }


@pytest.mark.parametrize(
    ("form", "change", "told"),
    [
        ("kohya", renamed("mid_block", "mid_block_7"),
         r"changes 3 modules that the unet has not, first unet.mid_block.*another architecture"),
        ("kohya", resized("attn1_to_q"),
         r"1 weights of another shape, first unet.*to_q \[8, 16\], where there is \[8, 8\]"),
        ("peft", renamed("unet.", "transformer."), "has not, first pipeline.transformer"),
        ("peft", renamed("text_encoder.", "text_encoder_3."), "the text_encoder_3 has not"),
        ("peft", renamed("unet.", ""), "the pipeline has not, first"),
        ("processors", renamed("unet.", ""), r"has the keys first .*expected a lora_down"),
        ("peft", without("mid_block.resnets.0.conv1.lora_B"), r"keys first unet.mid_block.*lora_A"),
        ("peft", lambda tensors: {}, "holds no weights"),
        ("kohya", more("lora_unet_mid_block_resnets_0_conv1.dora_scale"), "another method"),
        ("peft", more("unet.mid_block.resnets.0.conv1.lora_magnitude_vector"), "another method"),
        ("peft", more("unet.mid_block.resnets.0.conv1.lokr_w1"), "another method"),
        ("peft", more("unet.mid_block.resnets.0.conv1.lora_B.bias"), "another method"),
        ("peft", more("unet.conv_in.weight"), "has the keys first unet.conv_in.weight"),
        ("kohya", more("lora_unet_conv_in.weird"), "is not understood"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    form: str,
    change: Change,
    told: str,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    sd: tuple[Path, list[Part]],
) -> None:
    folder, parts = sd
    path = stored(change(FORMATS[form](parts, FAMILIES["sd"])), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=told) as error:
        checked(folder, str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Part]]:
    folder = pipeline_folder(tmp_path_factory.mktemp("sd"))
    generator = torch.Generator().manual_seed(3)
    weights = resolve_source(str(folder)).load("unet").state_dict()
    found = []
    for name in (each.format(down=0) for each in UNET):
        weight = weights[f"{name}.weight"]
        down = torch.randn((2, *weight.shape[1:]), generator=generator)
        up = torch.randn((weight.shape[0], 2, *[1] * (weight.ndim - 2)), generator=generator)
        found.append(Part("unet", name, down, up, 1.0))
    text = torch.randn((2, 8), generator=generator)
    found.append(Part("text_encoder", TEXT[0], text, text.T.contiguous(), 1.0))
    return folder, found


def test_a_lora_of_xl_is_refused_by_v1(sd: tuple[Path, list[Part]], tmp_path: Path) -> None:
    folder, parts = sd
    moved = [Part("text_encoder_2", p.module, p.down, p.up, 1.0) for p in parts[-1:]]
    path = stored(peft(moved, FAMILIES["xl"]), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"modules that the text_encoder_2 has not"):
        checked(folder, str(path))


def test_values_that_are_not_finite_are_refused(
    sd: tuple[Path, list[Part]], tmp_path: Path
) -> None:
    folder, parts = sd
    tensors = {key: value.clone() for key, value in peft(parts, FAMILIES["sd"]).items()}
    next(iter(tensors.values()))[0, 0] = float("nan")
    source, _ = checked(folder, str(stored(tensors, tmp_path / "a.safetensors")))
    with pytest.raises(InputError, match=r"with the LoRA .*a.safetensors: the weight .* NaN"):
        source.load("unet")


def test_files_and_scales(sd: tuple[Path, list[Part]], tmp_path: Path) -> None:
    path = stored(peft(sd[1], FAMILIES["sd"]), tmp_path / "a.safetensors")
    odd = Path(shutil.copy(path, tmp_path / "b:2"))
    assert Lora.parse(str(path)) == Lora(path, 1.0)
    assert Lora.parse(f"{path}:-0.5") == Lora(path, -0.5)
    assert Lora.parse(str(odd)) == Lora(odd, 1.0), "a file of that name"
    for text in (f"{path}:", f"{path}:x", f"{path}:nan", f"{path}:inf"):
        with pytest.raises(UsageError, match="expected FILE or FILE:SCALE"):
            Lora.parse(text)
    with pytest.raises(InputError, match="there is no LoRA file"):
        Lora.parse(f"{tmp_path / 'none'}:1")
    with pytest.raises(UsageError, match="tiny-test, which has no trained weights"):
        resolve_source("tiny-test", loras=(str(path),))
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(InputError, match=r"a.safetensors is not a whole safetensors file"):
        checked(sd[0], str(path))


def test_pickles_are_not_executed(sd: tuple[Path, list[Part]], tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path / "executed").touch, ()

    torch.save({"unet.conv_in.lora_A.weight": Evil()}, tmp_path / "a.bin")
    with pytest.raises(InputError, match=r"a.bin cannot be read as weights"):
        checked(sd[0], str(tmp_path / "a.bin"))
    assert not (tmp_path / "executed").exists()


def test_a_lora_beside_the_pipeline_is_told_unless_it_is_used(
    sd: tuple[Path, list[Part]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(sd[0], tmp_path / "pipeline"))
    path = stored(peft(sd[1], FAMILIES["sd"]), folder / "pytorch_lora_weights.safetensors")
    told = f"warning: pipeline: {path} is a LoRA and is not applied"
    source, said = checked(folder)
    assert told in said
    base = resolve_source(str(sd[0])).load("unet").state_dict()
    same(source.load("unet").state_dict(), base)
    assert told not in checked(folder, str(path))[1]


def test_a_bundle_remembers_its_loras(sd: tuple[Path, list[Part]], tmp_path: Path) -> None:
    folder, parts = sd
    path = stored(kohya(parts, FAMILIES["sd"]), tmp_path / "style.safetensors")
    given = f"{path}:0.5"
    made = compile_source(
        folder, output=tmp_path / "a.npub", loras=given, components="unet", calibration_prompts=0
    )
    (file,) = made.bundles.values()
    bundle = open_bundle(file)
    (info,) = bundle.manifest.source.loras
    assert (info.name, info.digest, info.scale) == (path.name, Lora(path).digest, 0.5)
    source = source_of(bundle, str(folder), lambda _: None, (given,))
    assert source is not None
    assert source.loras == (Lora(path, 0.5),)
    with pytest.raises(InputError, match=r"compiled with --lora style.safetensors:0.5; expected"):
        source_of(bundle, str(folder), lambda _: None)
    with pytest.raises(InputError, match="is not what the bundle was compiled from"):
        source_of(bundle, str(folder), lambda _: None, (str(path),))


def test_an_output_does_not_replace_the_lora(sd: tuple[Path, list[Part]], tmp_path: Path) -> None:
    path = stored(kohya(sd[1], FAMILIES["sd"]), tmp_path / "style.safetensors")
    before = path.read_bytes()
    with pytest.raises(UsageError):
        compile_source(sd[0], output=path, loras=str(path), components="unet")
    assert path.read_bytes() == before
