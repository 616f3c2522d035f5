"""What a training run can be told, in sections as the configuration file has them.

Every field is used; an unknown one is an error (``settings_file``). Defaults are the published
recipes': BK-SDM (Kim et al., 2023) for ``kd``, latent consistency models (Luo et al., 2023) for
``lcm``, SnapFusion (Li et al., 2023) for ``decoder``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class _Strict:
    """Unknown keys are errors."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Data(_Strict):
    """Where captioned images lie, and how they are read."""

    path: str
    """A folder with metadata.jsonl, of images with .txt files, or of webdataset shards."""
    caption_column: str = "text"
    image_size: Annotated[int, Field(ge=8)] | None = None
    """Side in pixels, the teacher's own by default; images are scaled to their shorter side and
    cropped in the centre."""
    workers: CountOrZero = 0
    """Processes that read images, for each process that trains."""


@dataclass(frozen=True, slots=True)
class Optimizer(_Strict):
    """AdamW, and a rate that rises linearly over ``warmup_steps`` and then stays."""

    learning_rate: Positive = 5e-5
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Positive = 1e-8
    weight_decay: NotNegative = 1e-2
    warmup_steps: CountOrZero = 0
    max_gradient_norm: Positive = 1.0


@dataclass(frozen=True, slots=True)
class Run(_Strict):
    """Length, batch, precision, and what is written how often.

    The batch of a step has ``batch_size`` x ``accumulation`` x processes samples.
    """

    steps: Count = 50_000
    batch_size: Count = 4
    """Samples at a time, for each process."""
    accumulation: Count = 64
    """Batches a step."""
    seed: CountOrZero = 0
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    gradient_checkpointing: bool = False
    log_every: Count = 10
    tensorboard: Literal["auto", "on", "off"] = "auto"
    """auto: when it is installed."""
    checkpoint_every: Count = 1000
    keep_checkpoints: Count = 2
    result: Literal["average", "student"] = "average"
    """Which of the two becomes the pipeline at the end."""


@dataclass(frozen=True, slots=True)
class Validation(_Strict):
    """Grids of images by teacher, student and its average; none without prompts."""

    every: Count = 1000
    prompts: tuple[str, ...] = ()
    steps: tuple[Count, ...] = (1, 2, 4)
    guidance_scale: NotNegative = 7.5
    seed: CountOrZero = 0


@dataclass(frozen=True, slots=True)
class DecoderValidation(_Strict):
    """Grids of the first ``images`` of the data, decoded by teacher, student and its average."""

    every: Count = 1000
    images: CountOrZero = 4


@dataclass(frozen=True, slots=True)
class KdSettings(_Strict):
    """Block-removed knowledge distillation."""

    teacher: str
    """SOURCE of the pipeline whose U-Net teaches; its other parts are kept."""
    data: Data
    student: str = "tiny"
    """base, small or tiny: blocks removed from the teacher. Else a SOURCE to go on from."""
    caption_dropout: Fraction = 0.0
    """Share of captions replaced by the empty one, which keeps guidance working."""
    task_weight: NotNegative = 1.0
    output_weight: NotNegative = 1.0
    feature_weight: NotNegative = 1.0
    average_decay: Fraction = 0.9999
    optimizer: Optimizer = field(default_factory=Optimizer)
    run: Run = field(default_factory=Run)
    validation: Validation = field(default_factory=Validation)


@dataclass(frozen=True, slots=True)
class LcmSettings(_Strict):
    """Latent-consistency distillation.

    ``guidance`` says how the teacher's guidance gets into the student: ``embedded`` as an input,
    ``baked`` without one, or ``aware`` as in SnapFusion, where with ``aware_probability`` student
    and teacher are both guided, and the student needs guidance when it is used.
    """

    teacher: str
    """SOURCE of the pipeline whose U-Net teaches: the original large model."""
    student: str
    """SOURCE of the pipeline whose U-Net is trained on."""
    data: Data
    caption_dropout: Fraction = 0.0
    """Share of captions replaced by the empty one, which keeps guidance working."""
    guidance: Literal["embedded", "baked", "aware"] = "embedded"
    guidance_low: NotNegative = 5.0
    guidance_high: NotNegative = 15.0
    guidance_embedding_width: Annotated[int, Field(ge=4)] = 256
    aware_probability: Fraction = 0.5
    solver_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    huber_c: Positive = 1e-3
    average_decay: Fraction = 0.95
    """Of the target network."""
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(learning_rate=8e-6))
    run: Run = field(default_factory=Run)
    validation: Validation = field(default_factory=Validation)


@dataclass(frozen=True, slots=True)
class DecoderSettings(_Strict):
    """Distillation of a narrower image decoder on pairs of latent and image."""

    teacher: str
    """SOURCE of the pipeline whose decoder teaches."""
    data: Data
    width: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the teacher's channels."""
    target: Literal["teacher", "image"] = "teacher"
    """What the student should decode to: the teacher's decoding, or the data's image."""
    average_decay: Fraction = 0.999
    optimizer: Optimizer = field(default_factory=Optimizer)
    run: Run = field(default_factory=Run)
    validation: DecoderValidation = field(default_factory=DecoderValidation)


Settings = KdSettings | LcmSettings | DecoderSettings
