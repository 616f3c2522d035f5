"""From settings to a run: loads networks, puts the objective together, writes the result."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgefusion.models.families.registry import STABLE_DIFFUSION
from edgefusion.models.graph_modules import VaeDecoder
from edgefusion.models.source import Source, resolve_source
from edgefusion.models.training.block_removal import VARIANTS, copy_weights, student_config
from edgefusion.models.training.captioned_images import CaptionedImages
from edgefusion.models.training.decoder import DecoderDistillation, narrower_autoencoder
from edgefusion.models.training.encoders import Encoders, VaeCodec
from edgefusion.models.training.kd import BlockRemovedDistillation
from edgefusion.models.training.lcm import ConsistencyDistillation, guided_student
from edgefusion.models.training.noise_schedule import NoiseSchedule
from edgefusion.models.training.pipeline_folder import scheduler_config, write_pipeline
from edgefusion.models.training.run_folder import PIPELINE, open_run_folder
from edgefusion.models.training.sampling import Sampler
from edgefusion.models.training.settings import (
    Data,
    DecoderSettings,
    KdSettings,
    LcmSettings,
    Settings,
)
from edgefusion.models.training.trainer import Training, train
from edgefusion.models.training.validation import GridOfDecoders, GridOfUNets
from edgefusion.models.trajectories import tokenizer_of
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.files import alone_in, disk_errors
from edgefusion.runtime.progress import Say, silent


@dataclass(frozen=True, slots=True)
class Session:
    """A run that is ready, and what writes its result: a pipeline folder."""

    training: Training
    write_result: Callable[[Path], None]


def run_training(
    settings: Settings, folder: Path, *, resume: bool = False, say: Say | None = None
) -> Path:
    """Train as the settings say, in ``folder``; the pipeline folder that it ends in.

    In every process of a distributed run; one of them writes. Raises UsageError for settings that
    contradict each other or a run that is there, InputError for sources and data that cannot be
    used, and what ``trainer.train`` raises.
    """
    tell = say or silent
    is_main = _is_main_process()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder) if is_main else nullcontext():
        open_run_folder(folder, settings, resume=resume)
        tell(f"loading {settings.teacher}")
        session = prepare(settings, folder)
        train(session.training, resume=resume, say=tell)
        result = folder / PIPELINE
        if is_main:
            tell(f"writing {result}")
            session.write_result(result)
    return result


def prepare(settings: Settings, folder: Path) -> Session:
    """Load everything; nothing is computed yet. Errors as in ``run_training``."""
    # The same start in all processes, and again when resumed.
    torch.manual_seed(settings.run.seed)
    base = Base.of(settings.teacher)
    if isinstance(settings, KdSettings):
        return _kd(settings, base, folder)
    if isinstance(settings, LcmSettings):
        return _lcm(settings, base, folder)
    return _decoder(settings, base, folder)


@dataclass(frozen=True, slots=True)
class Base:
    """The teacher's pipeline: what is kept of it, and how it reads prompts."""

    source: Source
    encoders: Encoders
    autoencoder: Any
    tokenize: Callable[[str], Any]
    image_px: int
    """Side of its images."""

    @classmethod
    def of(cls, name: str) -> Base:
        """The pipeline that ``name`` names. Raises InputError unless it has all three networks."""
        source = resolve_source(name)
        if source.family is not STABLE_DIFFUSION:
            raise InputError(
                f"{name} is of the family {source.family.title}; expected "
                f"{STABLE_DIFFUSION.title}, whose U-Net alone is trained here."
            )
        missing = [each for each in STABLE_DIFFUSION.components if each not in source.components]
        if missing or source.kind == "onnx":
            raise InputError(
                f"{name} has no {', '.join(missing) or 'weights to train with'}; expected a whole "
                "text-to-image pipeline as the teacher: text encoder, U-Net and VAE."
            )
        text_encoder: Any = source.load("text_encoder")
        autoencoder: Any = source.load_whole("vae_decoder")
        length = text_encoder.config.max_position_embeddings
        tokenize = tokenizer_of(source, "text_encoder", length)
        null = torch.from_numpy(tokenize("").ids)
        encoders = Encoders(text_encoder, VaeCodec(autoencoder), null)
        return cls(source, encoders, autoencoder, tokenize, autoencoder.config.sample_size)

    def dataset(self, data: Data) -> CaptionedImages:
        """The training data."""
        side = data.image_size or self.image_px
        return CaptionedImages.open(Path(data.path), data.caption_column, self.tokenize, side)


def _kd(settings: KdSettings, base: Base, folder: Path) -> Session:
    teacher: Any = base.source.load("unet")
    if settings.student in VARIANTS:
        config = student_config(teacher.config, settings.student)
        student: Any = type(teacher)(**config)
        copy_weights(teacher, student)
    else:
        student = resolve_source(settings.student).load("unet")
    _trainable(student, settings)
    schedule = NoiseSchedule.from_config(scheduler_config(base.source))
    objective = BlockRemovedDistillation(teacher, student, base.encoders, schedule, settings)
    return _with_unet(settings, base, folder, objective, consistency=False)


def _lcm(settings: LcmSettings, base: Base, folder: Path) -> Session:
    teacher = base.source.load("unet")
    student: Any = resolve_source(settings.student).load("unet")
    if settings.guidance == "embedded":
        student = guided_student(student, settings.guidance_embedding_width)
    _trainable(student, settings)
    schedule = NoiseSchedule.from_config(scheduler_config(base.source))
    objective = ConsistencyDistillation(teacher, student, base.encoders, schedule, settings)
    return _with_unet(settings, base, folder, objective, consistency=True)


def _with_unet(
    settings: KdSettings | LcmSettings,
    base: Base,
    folder: Path,
    objective: BlockRemovedDistillation | ConsistencyDistillation,
    *,
    consistency: bool,
) -> Session:
    """What both distillations of U-Nets have in common."""
    config = scheduler_config(base.source)
    guidance = settings.validation.guidance_scale
    # Without an input for it, guidance that was distilled in must not be applied again.
    baked = isinstance(settings, LcmSettings) and settings.guidance == "baked"
    of_student = Sampler(config, consistency, 1.0 if baked else guidance)
    rows = {
        "teacher": (objective.teacher, Sampler(config, False, guidance)),
        "student": (objective.student, of_student),
        "average": (objective.average.network, of_student),
    }
    validate = None
    if settings.validation.prompts:
        ids = [torch.from_numpy(base.tokenize(p).ids) for p in settings.validation.prompts]
        unet: Any = objective.student
        side = (settings.data.image_size or base.image_px) // _downscaling(base.autoencoder)
        shape = (unet.config["in_channels"], side, side)
        place = folder / "validation"
        validate = GridOfUNets(
            rows, base.encoders, torch.cat(ids), shape, settings.validation, place
        )
    training = Training(
        objective,
        base.dataset(settings.data),
        settings.run,
        settings.optimizer,
        folder,
        settings.data.workers,
        validate,
        settings.validation.every,
    )

    def write(result: Path) -> None:
        kept = settings.run.result == "average"
        unet = objective.average.network if kept else objective.student
        write_pipeline(base.source, result, {"unet": unet}, consistency=consistency)

    return Session(training, write)


def _decoder(settings: DecoderSettings, base: Base, folder: Path) -> Session:
    student: Any = narrower_autoencoder(base.autoencoder, settings.width)
    objective = DecoderDistillation(student, base.encoders, settings)
    _trainable(student, settings)
    dataset = base.dataset(settings.data)
    shown = min(settings.validation.images, len(dataset))
    validate = None
    if shown:
        rows = {
            "teacher": VaeDecoder(base.autoencoder),
            "student": objective.student,
            "average": objective.average.network,
        }
        pixels = torch.stack([dataset[i]["pixels"] for i in range(shown)])
        validate = GridOfDecoders(rows, base.encoders, pixels, folder / "validation")
    training = Training(
        objective,
        dataset,
        settings.run,
        settings.optimizer,
        folder,
        settings.data.workers,
        validate,
        settings.validation.every,
    )

    def write(result: Path) -> None:
        kept = objective.average.network if settings.run.result == "average" else objective.student
        write_pipeline(
            base.source, result, {"vae": objective.autoencoder_with(kept)}, consistency=False
        )

    return Session(training, write)


def _trainable(student: Any, settings: Settings) -> None:
    student.requires_grad_(True).train()
    if settings.run.gradient_checkpointing:
        student.enable_gradient_checkpointing()


def _downscaling(autoencoder: Any) -> int:
    """Pixels on a side of a latent's element."""
    return 1 << (len(autoencoder.config.block_out_channels) - 1)


def _is_main_process() -> bool:
    from accelerate import PartialState

    return bool(PartialState().is_main_process)
