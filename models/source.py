"""Resolves the SOURCE of the command line: what it is, what it holds, and its digest.

A source is a preset's name, the name of a checkpoint that comes with this package, a diffusers
pipeline folder, a checkpoint in one file in such a folder, an .onnx file, or a hub id.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgefusion.compiler.bundle.deployment import OWN, Deployment
from edgefusion.models.architectures import PRESETS, Architecture
from edgefusion.models.checkpoint import (
    described_network,
    file_digest,
    folder_digest,
    outline_from_folder,
)
from edgefusion.models.config_file import read_config
from edgefusion.models.families.family import Family, Part
from edgefusion.models.families.registry import STABLE_DIFFUSION, family_named
from edgefusion.models.folder_index import INDEX, PipelineIndex, read_index
from edgefusion.models.given_graph import GivenGraph
from edgefusion.models.lora import Lora, Updates
from edgefusion.models.networks.kind import Signature, Sizes
from edgefusion.models.noise_scheduler import NoiseScheduler
from edgefusion.models.onnx_component import component_of_onnx
from edgefusion.models.onnx_source import onnx_digest
from edgefusion.models.original_layout import outline_from_file
from edgefusion.models.outline import Outline, without_values
from edgefusion.models.shipped import SHIPPED
from edgefusion.models.single_file import check_single_file
from edgefusion.models.weight_files import WEIGHT_SUFFIXES
from edgefusion.runtime.errors import InputError, UsageError, in_brief
from edgefusion.runtime.pipeline_roles import runs_each_step

if TYPE_CHECKING:
    from torch import nn

SCHEDULER_FILE = "scheduler/scheduler_config.json"
"""In a pipeline's folder."""
SourceKind = Literal["preset", "folder", "hub", "file", "onnx"]
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""Neither ./folder nor ../folder, which can only be meant as paths."""
_VARIANT = re.compile(r"\w[\w-]*")
_CLOSE = 3
"""How many names like a mistyped one are told."""


@dataclass(frozen=True)  # without slots: the digest is computed once, on demand, and kept
class Source:
    """A resolved SOURCE; nothing of it is in memory yet."""

    kind: SourceKind
    name: str
    components: tuple[str, ...]
    """In pipeline order; for an .onnx file the one it is, or `model` where its inputs are none."""
    path: Path | None = None
    """The pipeline folder or the .onnx file; None for a preset."""
    file: Path | None = None
    """All weights of the pipeline in one, where they are not those of its folder."""
    seed: int | None = None
    """Seed of a preset's random weights."""
    architecture: Architecture | None = None
    """Its networks."""
    family: Family = STABLE_DIFFUSION
    """What family of pipelines it is of, or was chosen to be taken for; an .onnx file is named as
    Stable Diffusion's parts."""
    deployment: Deployment = OWN
    """How images are made of it, where that was chosen."""
    variant: str | None = None
    """Which weight files of a folder are meant; None for those of full precision, else fp16."""
    loras: tuple[Lora, ...] = ()
    """Fused into the networks as they are loaded, in this order."""

    @cached_property
    def digest(self) -> str:
        """sha256, as hex, of all content: the same digest means the same weights.

        Reads every file of a folder or .onnx once (about a second a gigabyte).
        """
        if self.architecture is not None:
            from edgefusion.models.random_weights import SCHEME, STRESS_SCHEME

            stress = self.architecture.stress
            identity = {
                "preset": self.architecture.to_json(),
                "seed": self.seed,
                "initialisation": [SCHEME, STRESS_SCHEME] if stress else SCHEME,
            }
            return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        assert self.path is not None
        if self.kind == "onnx":
            return onnx_digest(self.path)
        if self.file is None:
            content = folder_digest(self.path)
        else:
            beside = folder_digest(self.path, without=WEIGHT_SUFFIXES)
            content = hashlib.sha256(f"{beside} {file_digest(self.file)}".encode()).hexdigest()
        if self.variant is None and not self.loras:
            return content
        added = [[lora.digest, lora.scale] for lora in self.loras]
        return hashlib.sha256(json.dumps([content, self.variant, added]).encode()).hexdigest()

    @property
    def is_pipeline(self) -> bool:
        """Whether it is read from a pipeline's folder."""
        return self.kind in ("folder", "hub", "file")

    @property
    def index(self) -> PipelineIndex | None:
        """Of the folder that a pipeline is read from, as its family has it; None for others."""
        if not self.is_pipeline or self.path is None:
            return None
        return read_index(self.path, self.family)

    @property
    def sizes(self) -> Sizes:
        """What the parts of a pipeline share; of presets and .onnx files each part says its own,
        where none was chosen."""
        sizes = self.family.usual_sizes
        if index := self.index:
            sizes = index.family.sizes(index.configs)
        return replace(sizes, latent=self.deployment.latent or sizes.latent)

    @property
    def scheduler(self) -> NoiseScheduler:
        """What denoises: the chosen one, the pipeline's own, or the family's usual one."""
        named, config = None, {}
        if index := self.index:
            named = index.parts.get("scheduler")
            config = read_config(index.path.parent / SCHEDULER_FILE)
        usual = self.family.usual_scheduler
        return self.family.scheduler(self.deployment.scheduler or named or usual, config)

    @property
    def usual_steps(self) -> int:
        """Denoising steps where nothing says how many: a preset's by what it is, otherwise those of
        its pipeline with what denoises."""
        if self.architecture is not None and self.architecture.steps is not None:
            return self.architecture.steps
        class_name = index.class_name if (index := self.index) else ""
        return self.family.usual_steps(class_name, self.scheduler)

    @property
    def strength(self) -> float | None:
        """How much of the noise schedule is run: chosen, or as usual of a family that starts from
        pictures; None for one that starts from noise."""
        chosen = self.deployment.strength
        return self.family.pictures.strength if chosen is None else chosen

    @property
    def deployed(self) -> Deployment:
        """``deployment`` with what the pipeline itself says where nothing was chosen."""
        chosen = self.deployment.control_scale
        return replace(
            self.deployment,
            scheduler=self.scheduler.name,
            strength=self.strength,
            control_scale=self.family.pictures.scale if chosen is None else chosen,
        )

    def of_family(self, family: Family) -> Source:
        """Taken for one of another ``family``, of which it has all networks."""
        if family is self.family:
            return self
        taken = replace(self, family=family)
        if index := taken.index:
            return replace(taken, components=index.components)
        if self.architecture is None:
            return taken
        architecture = self.architecture.of_family(family)
        return replace(taken, architecture=architecture, components=tuple(architecture.networks))

    def part(self, component: str) -> Part:
        """What a pipeline's ``component`` is, of what its family takes."""
        if index := self.index:
            return index.compiled[component]
        part = self.family.part(component)
        if self.architecture is None:
            return part
        return self.architecture.part(part)

    def signature(self, component: str, config: Any, batch: int = 1) -> Signature:
        """Names, shapes and types of the graph of a pipeline's ``component``, whose module has the
        configuration ``config``."""
        part = self.part(component)
        sizes = part.sized(self.sizes)
        if runs_each_step(component):
            sizes = replace(sizes, timestep_dtype=self.scheduler.timestep_dtype)
        return part.kind.signature(config, sizes, batch)

    def given_graph(self, component: str, batch: int = 1) -> GivenGraph | None:
        """What a pipeline's folder has of ``component`` in place of weights; None where it has
        these, as other sources do. Raises InputError for a graph that does not fit the pipeline."""
        part = self.part(component)
        if not part.graph or (index := self.index) is None:
            return None
        import torch

        place = index.path.parent / part.folder
        with torch.device("meta"):  # for the configuration, with its library's values by default
            network: Any = part.kind.part(described_network(place, part))
        signature = self.signature(component, network.config, batch)
        return GivenGraph.of(place / part.graph, part, network.config, signature)

    def load(self, component: str) -> nn.Module:
        """One component in evaluation mode, float32: what its kind's ``graph`` takes.

        Raises UsageError for a component the source has not, InputError for damaged content.
        """
        return self.outline(component).filled()

    def load_whole(self, component: str) -> nn.Module:
        """As ``load``, but the vae_decoder comes as the autoencoder that it is part of."""
        return self._outline(component, whole=True).filled()

    def outline(self, component: str) -> Outline:
        """As ``load``, with the values apart, none of them in memory."""
        return self._outline(component, whole=False)

    def _outline(self, component: str, *, whole: bool) -> Outline:
        if component not in self.components or self.kind == "onnx":
            raise UsageError(
                f"{self.name} has no torch component {component}; it holds "
                f"{', '.join(self.components)} ({self.kind}). Choose among these."
            )
        if self.architecture is not None:
            part = None if whole else self.part(component)
            return _random_outline(self.architecture, component, part, self.seed or 0)
        assert self.path is not None
        part = self.part(component)
        if part.graph:
            raise UsageError(
                f"{self.path / part.folder} holds a graph ({part.graph}), and no weights by module "
                "to load. It can be compiled, exported and run; take the pipeline's torch weights "
                "for all else."
            )
        if self.file is not None:
            outline = outline_from_file(self.file, self.path, part)
        else:
            outline = outline_from_folder(self.path, part, self.variant)
        if not whole:
            outline = replace(outline, module=part.kind.part(outline.module).eval())
        for lora, updates in self.updates():
            if component in updates:
                outline = lora.fused(outline, updates[component])
        return outline

    def updates(self) -> tuple[tuple[Lora, Updates], ...]:
        """What each LoRA changes, read anew. Raises InputError for one that is not understood."""
        index = self.index
        if not self.loras or index is None:
            return ()
        configs = index.configs
        denoiser = self.family.denoiser.component
        unet = configs.of(denoiser).values if denoiser in configs.components else {}
        return tuple((lora, lora.updates(unet)) for lora in self.loras)


def resolve_source(
    text: str,
    *,
    random_weights_seed: int | None = None,
    variant: str | None = None,
    loras: Sequence[str] = (),
) -> Source:
    """The source that `text` names; a folder or file on disk wins over a hub id.

    `random_weights_seed` seeds a preset's weights (0 when None); no other source takes one.
    `variant` is of a pipeline's weight files, `loras` are FILE or FILE:SCALE each. The hub is not
    asked for what looks like a slip of a name here. Raises UsageError for a seed beside real
    weights, or a variant or LoRA of what has none, InputError for what cannot be found or read.
    """
    _check_variant(text, variant)
    if loras and not _has_weight_files(text):
        raise UsageError(
            f"--lora {loras[0]} was given with {text}, which has no trained weights by module; "
            "expected a diffusers pipeline folder or a hub id. Leave it out."
        )
    given = tuple(Lora.parse(each) for each in loras)
    if text in PRESETS:
        seed = random_weights_seed or 0
        architecture = PRESETS[text]
        components = tuple(architecture.networks)
        family = family_named(architecture.family)
        return Source(
            "preset", text, components, seed=seed, architecture=architecture, family=family
        )
    if random_weights_seed is not None:
        raise UsageError(
            f"--random-weights {random_weights_seed} was given with {text}, which brings its own "
            f"weights; expected a preset ({', '.join(PRESETS)}). Leave out one of the two."
        )
    if text in SHIPPED:
        return _pipeline("folder", text, SHIPPED[text], variant, given)
    path = Path(text).expanduser()
    if path.is_dir():
        return _pipeline("folder", path.resolve().name, path, variant, given)
    if path.is_file():
        if path.suffix != ".onnx":
            check_single_file(path)
            if variant is not None:
                raise _no_choice(text, variant)
            beside = _pipeline("file", path.stem, path.parent, None, given)
            return replace(beside, file=path)
        return Source("onnx", path.stem, (component_of_onnx(path),), path)
    names, paths = (*PRESETS, *SHIPPED), _paths_like(text)
    if path.suffix != ".onnx" and not paths and _HUB_ID.fullmatch(text):
        return _pipeline("hub", text, _download(text, variant), variant, given)
    close = [*paths, *get_close_matches(text, names)][:_CLOSE]
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    if "/" in text:
        raise InputError(
            f"there is no file or folder {text}. {hint}Check the spelling and the working "
            f"directory ({Path.cwd().name or '/'}); a hub id is owner/name."
        )
    raise InputError(
        f"{text} is neither a file or folder here, nor a preset ({', '.join(names)}), nor a hub "
        f"id (owner/name). {hint}Check the spelling and the working directory."
    )


def _check_variant(text: str, variant: str | None) -> None:
    if variant is None:
        return
    if not _VARIANT.fullmatch(variant):
        raise UsageError(
            f"--variant {variant}: expected the word between the dots of weight files' names, such "
            "as fp16 for diffusion_pytorch_model.fp16.safetensors."
        )
    if not _has_weight_files(text):
        raise _no_choice(text, variant)


def _no_choice(text: str, variant: str) -> UsageError:
    return UsageError(
        f"--variant {variant} was given with {text}, which has no weight files to choose among; "
        "expected a diffusers pipeline folder or a hub id. Leave it out."
    )


def _has_weight_files(text: str) -> bool:
    return text not in PRESETS and Path(text).suffix != ".onnx"


def _pipeline(
    kind: SourceKind, name: str, folder: Path, variant: str | None, loras: tuple[Lora, ...]
) -> Source:
    index = read_index(folder)
    return Source(
        kind,
        name,
        index.components,
        folder,
        family=index.family,
        variant=variant,
        loras=loras,
    )


def _paths_like(text: str) -> list[str]:
    """Pipeline folders and .onnx files that are called much like the path ``text``, as the user
    would write them."""
    base, slash, name = text.rstrip("/").rpartition("/")
    parent = Path(base + slash).expanduser()
    try:
        there = {each.name for each in parent.iterdir() if _may_be_source(each)}
    except OSError:
        return []
    close = [f"{name}.onnx"] if f"{name}.onnx" in there else get_close_matches(name, sorted(there))
    return [f"{base}{slash}{each}" for each in close]


def _may_be_source(path: Path) -> bool:
    return path.suffix == ".onnx" or (path / INDEX).is_file()


def _download(hub_id: str, variant: str | None) -> Path:
    """The local folder of a hub pipeline, fetched where it is not cached yet."""
    from diffusers import DiffusionPipeline
    from huggingface_hub.errors import HfHubHTTPError

    try:
        # The safety checker is never compiled, and larger than the U-Net.
        folder: str = DiffusionPipeline.download(hub_id, safety_checker=None, variant=variant)
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = in_brief(error)
        raise InputError(
            f"{hub_id} is no folder here and cannot be fetched from the hub either: {reason}. "
            "Check the name and the network, log in where the model is gated, or download the "
            "pipeline elsewhere and name its folder."
        ) from error
    return Path(folder)


def _random_outline(
    architecture: Architecture, component: str, part: Part | None, seed: int
) -> Outline:
    """``part`` of the network, all of it for None."""
    from edgefusion.models.random_weights import RandomWeights

    module = without_values(architecture.networks[component].build)
    if part is not None:
        module = part.kind.part(module)
    values = RandomWeights(module, component, seed, stress=architecture.stress)
    return Outline(module.eval(), values)
