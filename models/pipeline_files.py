"""Files beside the weights that running a pipeline needs: tokenizer, scheduler, the VAE's scaling.

They travel in a bundle as ``pipeline/<folder>/<file>``, so that a bundle runs without its source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefusion.models.config_file import is_count, is_number
from edgefusion.models.families.family import Part
from edgefusion.models.folder_index import PipelineIndex, read_index
from edgefusion.models.source import SCHEDULER_FILE, Source
from edgefusion.models.tokenization import own_tokenizer
from edgefusion.runtime.errors import InputError

PREFIX = "pipeline/"
SCHEDULER_CONFIG = f"{PREFIX}{SCHEDULER_FILE}"
VAE_CONFIG = "pipeline/vae/config.json"
_KINDS = (".json", ".txt", ".model")
_LARGEST_BYTES = 32 << 20
CLIP_VOCABULARY = 49408


def pipeline_files(source: Source) -> dict[str, Path | bytes]:
    """Members by name, with the files that they are made from, or what a preset says in place of
    these; none for .onnx files.

    Raises InputError for a file too large to be what it is called.
    """
    if source.architecture is not None:
        decoder = source.architecture.networks[source.family.decoder.component]
        keys = ("scaling_factor", "shift_factor")
        stated = {key: getattr(decoder, key) for key in keys if hasattr(decoder, key)}
        return {VAE_CONFIG: json.dumps(stated).encode()} if stated else {}
    if not source.is_pipeline or source.path is None:
        return {}
    found: dict[str, Path] = {}
    tokenizers = [part.tokenizer for part in source.family.encoders]
    for folder in (*tokenizers, "scheduler"):
        for path in sorted((source.path / folder).glob("*")):
            if path.is_file() and path.suffix in _KINDS and not path.name.startswith("."):
                found[f"{PREFIX}{folder}/{path.name}"] = path
    config = _decoder_config(source, source.path)
    if config.is_file():
        found[VAE_CONFIG] = config
    for path in found.values():
        if path.stat().st_size > _LARGEST_BYTES:
            raise InputError(
                f"{path} has {path.stat().st_size:,} bytes; expected at most {_LARGEST_BYTES:,} "
                "for a tokenizer's or scheduler's file. Remove it if it is none."
            )
    return {**found}


def _decoder_config(source: Source, folder: Path) -> Path:
    """Of the pipeline's image decoder, compiled or not."""
    index = read_index(folder)
    compiled = index.compiled.get(source.family.decoder.component, source.family.decoder)
    return folder / compiled.folder / "config.json"


def config_of(source: Source) -> PipelineConfig:
    """What the files of a source say."""
    files = pipeline_files(source)
    return pipeline_config(
        {name: v if isinstance(v, bytes) else v.read_bytes() for name, v in files.items()}
    )


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """``tokenizers``: files by name of each that there is, by its folder; the scheduler's
    configuration; what latents are divided by before decoding, and what is then added."""

    tokenizers: Mapping[str, Mapping[str, bytes]]
    scheduler: Mapping[str, Any]
    scaling_factor: float
    shift_factor: float = 0.0


DEFAULT_SCALING_FACTOR = 0.18215
"""Of Stable Diffusion v1's image decoder."""


def pipeline_config(members: Mapping[str, bytes]) -> PipelineConfig:
    """What the ``pipeline/`` members of a bundle say; Stable Diffusion v1's values by default.

    Raises InputError for members that are not understood.
    """
    vae = _json(members, VAE_CONFIG)
    scaling = vae.get("scaling_factor", DEFAULT_SCALING_FACTOR)
    if not is_number(scaling) or scaling <= 0:
        raise InputError(f"{VAE_CONFIG}: expected a positive scaling_factor, found {scaling!r}")
    tokenizers: dict[str, dict[str, bytes]] = {}
    for name, content in members.items():
        folder, _, file = name.removeprefix(PREFIX).partition("/")
        if folder.startswith("tokenizer"):
            tokenizers.setdefault(folder, {})[file] = content
    shift = vae.get("shift_factor") or 0.0
    if not is_number(shift):
        raise InputError(f"{VAE_CONFIG}: expected a number as shift_factor, found {shift!r}")
    scheduler = _json(members, SCHEDULER_CONFIG)
    return PipelineConfig(tokenizers, scheduler, float(scaling), float(shift))


def _json(members: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        value = json.loads(members.get(name, b"{}"))
    except ValueError as error:
        raise InputError(f"{name} is no JSON: {error}. Check the pipeline's folder.") from error
    if not isinstance(value, dict):
        raise InputError(f"{name} holds a {type(value).__name__}; expected an object.")
    return value


def check_tokenizers(source: Source, index: PipelineIndex) -> list[str]:
    """What to tell the user of tokenizers that are not there.

    Raises InputError for one of another class, and for tokens that its text encoder does not know
    or takes for others.
    """
    config = config_of(source)
    sizes = source.sizes
    found = (
        _check_tokenizer(config, part, part.sized(sizes).context_tokens, index)
        for part in index.family.encoders
    )
    return [remark for remark in found if remark is not None]


def _check_tokenizer(
    config: PipelineConfig, part: Part, length: int, index: PipelineIndex
) -> str | None:
    name = part.tokenizer
    named, files = index.parts.get(name), config.tokenizers.get(name)
    if not files:
        if named is None:
            return (
                f"{index.path.name} names no {name}: prompts are hashed to calibrate, and "
                "`edgefusion run` cannot read any"
            )
        raise InputError(
            f"{index.path} names the {name} {named}, but {name}/ beside it holds none of "
            "its files. Download the whole pipeline again."
        )
    expected = part.reading.form.class_name
    if named is not None and not named.startswith(expected):
        raise InputError(
            f"{index.path}: {name} is {named}; expected {expected}, the one that prompts are "
            "read with here. Take another pipeline."
        )
    tokenizer = own_tokenizer(part.reading, files, length)
    if part.component in index.components:
        text = index.configs.of(part.component)
        vocabulary = text.values.get("vocab_size", CLIP_VOCABULARY)
        if not is_count(vocabulary) or vocabulary < tokenizer.vocabulary:
            raise text.error(
                "vocab_size",
                f"expected at least {tokenizer.vocabulary}, the tokens that {name}/ knows. Take "
                "both from one pipeline.",
                vocabulary,
            )
        padding = part.kind.padding(text)
        if padding is not None and padding != tokenizer.marks.pad:
            raise text.error(
                "pad_token_id",
                f"expected {tokenizer.marks.pad}, which {name}/ pads prompts with. Take both from "
                "one pipeline.",
                padding,
            )
    return None
