"""Files given as a source: which are a checkpoint in one file, and what to do with others.

Headers of safetensors are read, and nothing of a pickle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgefusion.models.folder_index import INDEX, read_index
from edgefusion.models.weight_files import SAFETENSORS, is_lora, weight_names
from edgefusion.runtime.errors import InputError

_DENOISER, _IMAGES = "model.diffusion_model.", "first_stage_model."
"""Before the keys of a U-Net and an autoencoder in the layout of the original training code."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """A pipeline in one file: what its text encoders' keys begin with, its name, its class."""

    prefix: str
    title: str
    pipeline: str


_LAYOUTS = (
    _Layout("cond_stage_model.transformer.", "Stable Diffusion v1", "StableDiffusionPipeline"),
    _Layout("cond_stage_model.model.", "Stable Diffusion v2", "StableDiffusionPipeline"),
    _Layout("conditioner.embedders.", "Stable Diffusion XL", "StableDiffusionXLPipeline"),
)
_NETWORKS = ("conv_in.weight", "encoder.conv_in.weight", "text_model.", "embeddings.")
"""How keys of one component begin, as save_pretrained writes them."""
_PICKLES = (".ckpt", ".bin", ".pt", ".pth")
_SHOWN = 3


def check_single_file(path: Path) -> None:
    """Raises InputError, saying what to do, unless ``path`` is a pipeline in one file that lies in
    a pipeline's folder of its family."""
    kind = f"{path} is a file of type {path.suffix or '(none)'}"
    expected = "expected an .onnx file or a diffusers pipeline folder"
    if path.suffix in _PICKLES:
        raise InputError(
            f"{kind}; {expected}. A pickle may run code where it is loaded, so nothing of it is "
            "read: take the .safetensors file or the diffusers folder of this checkpoint."
        )
    if path.suffix != SAFETENSORS:
        raise InputError(f"{kind}; {expected}. Check that this is the file you mean.")
    keys = weight_names(path)
    layout = next(
        (each for each in _LAYOUTS if any(key.startswith(each.prefix) for key in keys)), None
    )
    whole = all(any(k.startswith(p) for k in keys) for p in (_DENOISER, _IMAGES))
    if layout is not None and whole:
        _check_folder(path, layout)
        return
    if is_lora(keys):
        raise InputError(
            f"{path} is a LoRA, which changes the networks of a pipeline; {expected}. Name the "
            f"pipeline, and this file with --lora {path}."
        )
    if any(key.startswith(_NETWORKS) for key in keys):
        raise InputError(
            f"{path} holds the weights of one component; {expected}. Name the folder that holds "
            "model_index.json; --components chooses among its networks."
        )
    found = ", ".join(sorted(keys)[:_SHOWN]) or "none"
    prefixes = ", ".join(layout.prefix for layout in _LAYOUTS)
    raise InputError(
        f"{path} is no checkpoint that is known here; {expected}. Keys were looked for that begin "
        f"with {_DENOISER} and {_IMAGES} and one of {prefixes} (a pipeline in one file); the first "
        f"found are {found}. Take the diffusers folder of this checkpoint."
    )


def _check_folder(path: Path, layout: _Layout) -> None:
    """Raises InputError unless a pipeline's folder of that layout is where ``path`` lies."""
    if not (path.parent / INDEX).is_file():
        raise InputError(
            f"{path} is a whole {layout.title} in one file (keys {_DENOISER}…, {_IMAGES}…, "
            f"{layout.prefix}…), and configurations and tokenizer are in no such file; expected "
            f"{INDEX} beside it, with the folders that it names. Put the file into the folder of a "
            "pipeline of the same architecture, whose own weights are not needed (`hf download` "
            "with --exclude '*.safetensors' fetches the rest of one); or convert it "
            f"once with diffusers: {layout.pipeline}.from_single_file('{path.name}')"
            ".save_pretrained('my-pipeline'), and compile my-pipeline."
        )
    family = read_index(path.parent).family
    if layout.pipeline not in family.pipelines:
        raise InputError(
            f"{path} is a whole {layout.title} in one file (keys {layout.prefix}…), but "
            f"{INDEX} beside it is of {family.title}. Put it into the folder of a pipeline of the "
            "same architecture."
        )
