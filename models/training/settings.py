"""What a training run can be told, in sections as the configuration file has them.

Every field is used; an unknown one is an error (``settings_file``). Defaults are the published
recipes': BK-SDM (Kim et al., 2023) for ``kd``, latent consistency models (Luo et al., 2023) for
``lcm``, SnapFusion (Li et al., 2023) for ``decoder``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from edgefusion.runtime.validation import Strict

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Data(Strict):
    """Where captioned images lie, and how they are read."""

    path: str
    """A folder with metadata.jsonl, of images with .txt files, or of webdataset shards."""
    caption_column: str = "text"
    """By name; found in metadata.jsonl, or in the .json members of shards."""
    image_size: Annotated[int, Field(ge=8)] | None = None
    """Side in pixels, the teacher's own by default; images are scaled to their shorter side and
    cropped in the centre."""
    workers: CountOrZero = 0
    """Processes that read images, for each process that trains."""


@dataclass(frozen=True, slots=True)
class Optimizer(Strict):
    """AdamW, and a rate that rises linearly over ``warmup_steps`` and then stays."""

    learning_rate: Positive = 5e-5
    """Constant after the warm-up."""
    beta1: Fraction = 0.9
    """Decay of the gradient's mean."""
    beta2: Fraction = 0.999
    """Decay of its square's mean."""
    epsilon: Positive = 1e-8
    """Added to the root of the latter."""
    weight_decay: NotNegative = 1e-2
    """Decoupled from the gradient."""
    warmup_steps: CountOrZero = 0
    """Over which the rate rises from zero."""
    max_gradient_norm: Positive = 1.0
    """Gradients are scaled down to it."""


@dataclass(frozen=True, slots=True)
class Run(Strict):
    """Length, batch, precision, and what is written how often.

    The batch of a step has ``batch_size`` x ``accumulation`` x processes samples.
    """

    steps: Count = 50_000
    """Of the optimizer, in all."""
    batch_size: Count = 4
    """Samples at a time, for each process."""
    accumulation: Count = 64
    """Batches a step."""
    seed: CountOrZero = 0
    """Of every draw: noise, timesteps, order of the data."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Of all arithmetic but losses, and of the frozen networks' weights."""
    gradient_checkpointing: bool = False
    """Less memory, for one more forward pass."""
    log_every: Count = 10
    """Steps."""
    tensorboard: Literal["auto", "on", "off"] = "auto"
    """auto: when it is installed."""
    checkpoint_every: Count = 1000
    """Steps. A checkpoint is whole or absent."""
    keep_checkpoints: Count = 2
    """The newest."""
    result: Literal["average", "student"] = "average"
    """Which of the two becomes the pipeline at the end."""


@dataclass(frozen=True, slots=True)
class Validation(Strict):
    """Grids of images by teacher, student and its average; none without prompts."""

    every: Count = 1000
    """Steps."""
    prompts: tuple[str, ...] = ()
    """A row of the grid each."""
    steps: tuple[Count, ...] = (1, 2, 4)
    """Denoising steps, a grid each."""
    guidance_scale: NotNegative = 7.5
    """As in diffusers; 1 is none."""
    seed: CountOrZero = 0
    """Of the noise that images start from."""


@dataclass(frozen=True, slots=True)
class DecoderValidation(Strict):
    """Grids of the first ``images`` of the data, decoded by teacher, student and its average."""

    every: Count = 1000
    """Steps."""
    images: CountOrZero = 4
    """A row of the grid each."""


@dataclass(frozen=True, slots=True)
class KdSettings(Strict):
    """Block-removed knowledge distillation."""

    teacher: str
    """SOURCE of the pipeline whose U-Net teaches; its other parts are kept."""
    data: Data
    student: str = "tiny"
    """base, small or tiny: blocks removed from the teacher. Else a SOURCE to go on from."""
    caption_dropout: Fraction = 0.0
    """Share of captions replaced by the empty one, which keeps guidance working."""
    task_weight: NotNegative = 1.0
    """Of the loss against the noise that was added."""
    output_weight: NotNegative = 1.0
    """Of the loss against the teacher's prediction."""
    feature_weight: NotNegative = 1.0
    """Of the sum of losses against the teacher's features."""
    average_decay: Fraction = 0.9999
    """Of the exponential moving average of the student's weights."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    run: Run = field(default_factory=Run)
    validation: Validation = field(default_factory=Validation)


@dataclass(frozen=True, slots=True)
class LcmSettings(Strict):
    """Latent-consistency distillation."""

    teacher: str
    """SOURCE of the pipeline whose U-Net teaches: the original large model."""
    student: str
    """SOURCE of the pipeline whose U-Net is trained on."""
    data: Data
    caption_dropout: Fraction = 0.0
    """Share of captions replaced by the empty one, which keeps guidance working."""
    guidance: Literal["embedded", "baked", "aware"] = "embedded"
    """How the teacher's guidance gets into the student: ``embedded`` as an input, ``baked`` without
    one, or ``aware`` as in SnapFusion, where student and teacher are both guided in a share of the
    steps, and the student needs guidance when it is used."""
    guidance_low: NotNegative = 5.0
    """Weights w of cond + w (cond - uncond) are drawn evenly from here, one less than diffusers'
    guidance scale,"""
    guidance_high: NotNegative = 15.0
    """to here."""
    guidance_embedding_width: Annotated[int, Field(ge=4)] = 256
    """Of the sinusoidal embedding of w, where it is embedded."""
    aware_probability: Fraction = 0.5
    """Share of steps with guidance, where it is aware."""
    solver_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Of the DDIM solver whose one step leads from the student's point to the target's."""
    huber_c: Positive = 1e-3
    """Of the pseudo-Huber loss, sqrt(d^2 + c^2) - c."""
    average_decay: Fraction = 0.95
    """Of the target network."""
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(learning_rate=8e-6))
    run: Run = field(default_factory=Run)
    validation: Validation = field(default_factory=Validation)


@dataclass(frozen=True, slots=True)
class DecoderSettings(Strict):
    """Distillation of a narrower image decoder on pairs of latent and image."""

    teacher: str
    """SOURCE of the pipeline whose decoder teaches."""
    data: Data
    width: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the teacher's channels."""
    target: Literal["teacher", "image"] = "teacher"
    """What the student should decode to: the teacher's decoding, or the data's image."""
    average_decay: Fraction = 0.999
    """Of the exponential moving average of the student's weights."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    run: Run = field(default_factory=Run)
    validation: DecoderValidation = field(default_factory=DecoderValidation)


Settings = KdSettings | LcmSettings | DecoderSettings
