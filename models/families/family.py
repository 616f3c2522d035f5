"""What a family of text-to-image pipelines is: a description that every stage asks.

Its parts (networks, in the order in which an image passes through them), what each is given, how
often it runs, and what its denoiser is given that stays the same over all steps. Loading, export,
calibration, running and verification know no other difference between pipelines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.bundle.deployment import LCM
from edgefusion.models.config_file import ConfigFile, is_count, pair, read_config
from edgefusion.models.families.pictures import NO_PICTURES, PictureUse
from edgefusion.models.networks.kind import CONTEXT_TOKENS, NetworkKind, Sizes
from edgefusion.models.noise_scheduler import SCHEDULERS, NoiseScheduler
from edgefusion.models.tokenization import AS_CLIP, Reading
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.pipeline_roles import PipelineRole, role_of, runs_each_step

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]
Arrays = Mapping[str, Array]

GUIDANCE_SCALE = 7.5
"""For students that take the guidance as an input: the pipelines' usual value."""
NO_IP_ADAPTER = "it only reads pictures for an IP-Adapter, which this folder has none of"
"""What leaving out an ``image_encoder`` means."""
STUDENT_STEPS = (1, 2, 4)
"""Denoising steps of models distilled for few."""
USUAL_STUDENT_STEPS = 2
"""Of these EdgeFusion's, for students in pipelines whose class was made for other models."""
READING_PICTURES: Mapping[str, str] = MappingProxyType(
    {
        "feature_extractor": "it only prepares pictures for an image encoder",
        "image_encoder": NO_IP_ADAPTER,
    }
)
"""``Family.harmless`` of pipelines that may have both."""
_NO_LENGTH = 10**9


@dataclass(frozen=True, slots=True)
class Part:
    """One network of a pipeline: the component it becomes, its folder, and what it is, or may be
    instead."""

    component: str
    folder: str
    kind: NetworkKind
    tokenizer: str = ""
    """The folder of what makes a text encoder's tokens."""
    reading: Reading = AS_CLIP
    """How the pipeline has it read prompts."""
    others: tuple[NetworkKind, ...] = ()
    graph: str = ""
    """The file in its folder that is its graph (``models.given_graph``); empty for weights."""

    def of_class(self, class_name: str | None) -> Part | None:
        """The part where its network is of that class of a library; None where it cannot be."""
        for kind in (self.kind, *self.others):
            if kind.class_name == class_name:
                return self.of_kind(kind)
        return None

    def of_kind(self, kind: NetworkKind) -> Part:
        """The part where its network is of ``kind``, and can be no other."""
        return replace(self, kind=kind, others=())

    def sized(self, sizes: Sizes) -> Sizes:
        """``sizes`` of a pipeline as they are for this part: text encoders may read more or fewer
        tokens than others."""
        return replace(sizes, context_tokens=self.reading.tokens or sizes.context_tokens)

    @property
    def role(self) -> PipelineRole:
        """What it does for an image."""
        return role_of(self.component)


@dataclass(frozen=True, slots=True)
class Configs:
    """The configurations of those ``components`` of a pipeline's ``folder`` that are there."""

    folder: Path
    components: Mapping[str, Part]

    def of(self, component: str) -> ConfigFile:
        """That of one component."""
        return ConfigFile.read(self.folder / self.components[component].folder / "config.json")

    def longest_prompt(self, component: str) -> object:
        """``model_max_length`` of a text encoder's tokenizer; None where it states none."""
        path = self.tokenizer_config(component)
        found = read_config(path).get("model_max_length") if path is not None else None
        # transformers writes 10^30 for none.
        return None if isinstance(found, int) and found > _NO_LENGTH else found

    def tokenizer_config(self, component: str) -> Path | None:
        """Where a text encoder's tokenizer says what it is."""
        folder = self.components[component].tokenizer
        return self.folder / folder / "tokenizer_config.json" if folder else None


class Family(ABC):
    """Subclasses are values: one instance each, in ``registry.FAMILIES``."""

    name: ClassVar[str]
    title: ClassVar[str]
    """As users know it."""
    pipelines: ClassVar[Mapping[str, int]]
    """Classes of diffusers, as model_index.json's ``_class_name`` names them, and how many steps
    each takes where it is not told; the first one where nothing names a class."""
    parts: ClassVar[tuple[Part, ...]]
    """In the order in which an image passes through them."""
    zero_without_negative: ClassVar[bool] = False
    """Whether a prompt is told apart from zeros, not from the empty prompt, where no negative one
    is given, unless the pipeline says otherwise."""
    schedulers: ClassVar[Collection[str]] = tuple(SCHEDULERS)
    """Classes of diffusers that may denoise."""
    usual_scheduler: ClassVar[str] = LCM
    """The one where nothing says which."""
    without_picture: ClassVar[tuple[str, ...]] = ()
    """Classes of diffusers whose folders have all parts of this family, and start from noise."""
    pictures: ClassVar[PictureUse] = NO_PICTURES
    """What it does with pictures that it is given."""
    harmless: ClassVar[Mapping[str, str]]
    """Other parts that a prompt's picture does not pass through, and what leaving them out
    means."""

    @property
    def components(self) -> tuple[str, ...]:
        """Names of all parts, in pipeline order."""
        return tuple(part.component for part in self.parts)

    @property
    def encoders(self) -> tuple[Part, ...]:
        """The parts that read the prompt."""
        return tuple(part for part in self.parts if part.role == "encoder")

    @property
    def denoiser(self) -> Part:
        """The part that runs once a step."""
        return next(part for part in self.parts if part.role == "denoiser")

    @property
    def each_step(self) -> tuple[Part, ...]:
        """The parts that run once a step, one after another; the denoiser is the last."""
        return tuple(part for part in self.parts if runs_each_step(part.component))

    @property
    def image_encoder(self) -> Part | None:
        """The part that reads pictures; None where latents are made of none."""
        return next((part for part in self.parts if part.role == "image_encoder"), None)

    @property
    def decoder(self) -> Part:
        """The part that makes the image."""
        return next(part for part in self.parts if part.role == "decoder")

    def part(self, component: str) -> Part:
        """The part that becomes ``component``; KeyError where there is none."""
        for part in self.parts:
            if part.component == component:
                return part
        raise KeyError(component)

    def before(self, component: str) -> tuple[str, ...]:
        """The components that make the real inputs of ``component``."""
        each_step = [part.component for part in self.each_step]
        reading = [p.component for p in self.parts if p.role in ("encoder", "image_encoder")]
        if component in each_step:
            return (*reading, *(name for name in each_step if name != component))
        return (*reading, *each_step) if component == self.decoder.component else ()

    def constant_inputs(self, component: str, inputs: Sequence[str]) -> tuple[str, ...]:
        """Those of a component's ``inputs`` that are the same in all its evaluations for one
        image."""
        if not runs_each_step(component):
            return ()
        return tuple(name for name in inputs if not varies(name))

    def check(self, configs: Configs, component: str) -> None:
        """Raises InputError, naming file and key, unless ``component`` is what the family has, and
        fits the others."""
        part = configs.components[component]
        part.kind.check(configs.of(component))
        if part.role == "encoder" and part.reading.tokens is None:
            _check_prompt_length(configs, component)

    def sizes(self, configs: Configs) -> Sizes:
        """What the configurations and tokenizers decide for all parts; values that make no sense
        count as absent."""
        latent = None
        if self.denoiser.component in configs.components:
            latent = pair(configs.of(self.denoiser.component).values.get("sample_size"))
        lengths: list[object] = []
        for part in self.encoders:
            if part.reading.tokens is None and part.component in configs.components:
                config = configs.of(part.component).values
                lengths.append(config.get("max_position_embeddings", CONTEXT_TOKENS))
                lengths.append(configs.longest_prompt(part.component))
        usual = self.usual_sizes.context_tokens
        return Sizes(latent, min((n for n in lengths if is_count(n)), default=usual))

    @property
    def usual_sizes(self) -> Sizes:
        """Those of networks whose configurations say no others."""
        lengths = (part.reading.tokens or CONTEXT_TOKENS for part in self.encoders)
        return Sizes(context_tokens=min(lengths))

    def usual_steps(self, class_name: str, scheduler: NoiseScheduler) -> int:
        """Denoising steps where nothing says how many, of a pipeline of diffusers' class."""
        usual = self.pipelines.get(class_name, next(iter(self.pipelines.values())))
        if scheduler.is_of_students and usual not in STUDENT_STEPS:
            return USUAL_STUDENT_STEPS
        return usual

    @abstractmethod
    def conditions(
        self, encoded: Mapping[str, Arrays], shapes: Shapes, guidance: float = GUIDANCE_SCALE
    ) -> dict[str, Array]:
        """Inputs of the denoiser that are the same for all steps, by name.

        ``encoded`` are results of the text encoders that have run, by component; ``shapes`` those
        of the denoiser's inputs, ``guidance`` is for one that takes it as an input. What depends on
        an encoder that has not run is left out.
        """

    def scheduler(self, name: str, config: Mapping[str, Any]) -> NoiseScheduler:
        """The scheduler of a pipeline: its class, and its scheduler_config.json as the pipeline
        takes it; for the whole noise schedule."""
        return NoiseScheduler(name, config, spreads_steps=self.pictures.spreads_steps)

    def drawn_conditions(
        self,
        encoded: Mapping[str, Arrays],
        shapes: Shapes,
        rng: np.random.Generator,
        guidance: float = GUIDANCE_SCALE,
    ) -> dict[str, Array]:
        """As ``conditions``, with normal values for what no encoder has made: what a final norm
        leaves."""
        made = self.conditions(encoded, shapes, guidance)
        rest = (name for name in shapes if name not in made and not varies(name))
        drawn = {name: rng.standard_normal(shapes[name]).astype(np.float32) for name in rest}
        return {**made, **drawn}


SAMPLE, TIMESTEP, NOISE = "sample", "timestep", "noise_pred"
"""What a denoiser is given anew at each step, and what it makes."""
RESIDUAL = "residual_"
"""How names of what a control makes for the denoiser begin, anew at each step."""
LATENT, IMAGE = "latent", "image"
"""What a decoder is given, and what it makes."""
CONTEXT = "encoder_hidden_states"
CONTEXT_MASK = "encoder_attention_mask"
HIDDEN = "hidden_states"
GUIDANCE = "timestep_cond"


def varies(name: str) -> bool:
    """Whether an input of what runs every step is another one at each."""
    return name in (SAMPLE, TIMESTEP) or name.startswith(RESIDUAL)


def guidance_condition(shapes: Shapes, guidance: float) -> dict[str, Array]:
    """The guidance's embedding, where the denoiser takes one."""
    if GUIDANCE not in shapes:
        return {}
    return {GUIDANCE: guidance_embedding(guidance, shapes[GUIDANCE][-1])}


def guidance_embedding(guidance: float, width: int) -> npt.NDArray[np.float32]:
    """Sines and cosines [1, width] of 1000 (guidance - 1), as diffusers' latent-consistency
    pipeline embeds it."""
    half = width // 2
    frequencies = np.exp(-np.log(10000.0) / (half - 1) * np.arange(half))
    angles = (guidance - 1) * 1000.0 * frequencies
    values = np.zeros((1, width), np.float32)
    values[0, : 2 * half] = np.concatenate([np.sin(angles), np.cos(angles)])
    return values


def _check_prompt_length(configs: Configs, component: str) -> None:
    config, longest = configs.of(component), configs.longest_prompt(component)
    positions = config.values.get("max_position_embeddings", CONTEXT_TOKENS)
    if longest is not None and (not is_count(longest) or longest < 2 or longest > positions):
        raise InputError(
            f"{configs.tokenizer_config(component)}: model_max_length is {longest!r}; expected a "
            f"whole number from 2 to {positions}, which is max_position_embeddings in "
            f"{configs.components[component].folder}/config.json: the text encoder takes no longer "
            "prompt. Take both from one pipeline, or correct model_max_length."
        )
