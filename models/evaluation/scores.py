"""IS, FID and CLIP score of image files, by torchmetrics, in one pass over them.

Inception score: Salimans et al., 2016; Fréchet inception distance: Heusel et al., 2017; CLIP score:
Hessel et al., 2021, here the plain cosine as in the paper's tables (not times 100).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from edgefusion.models.clip import ClipPair
from edgefusion.models.data.crops import square_boxes
from edgefusion.models.data.images import UnreadableImageError, decoded
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.progress import Say, silent


@dataclass(frozen=True, slots=True)
class ScoreNetworks:
    """What each metric sees through; None leaves the metric out. ``features`` and ``logits`` take
    bytes [n, 3, size, size]."""

    features: nn.Module | None = None
    logits: nn.Module | None = None
    clip: ClipPair | None = None


def scores(
    images: Sequence[Path],
    prompts: Sequence[str],
    real: Sequence[Path],
    networks: ScoreNetworks,
    *,
    size_pixels: int = 256,
    splits: int = 10,
    split_seed: int = 0,
    batch: int = 32,
    device: str = "cpu",
    say: Say = silent,
) -> dict[str, float | None]:
    """``inception_score`` with ``inception_score_std`` over ``splits`` (None for one), ``fid``
    against ``real``, and ``clip_score``, a cosine; those that ``networks`` allow.

    All images are cut to the centre square and scaled to ``size_pixels``. Raises InputError for
    unreadable images, and for fewer than two where a distance is wanted.
    """
    # 1. Metrics
    fid, inception, clip = _metrics(networks, size_pixels, splits, device)
    if fid is not None and min(len(images), len(real)) < 2:
        raise InputError(
            f"FID compares distributions; expected at least 2 images on each side, found "
            f"{len(images)} generated and {len(real)} real ones."
        )

    # 2. Images
    with torch.no_grad():
        for first, pixels in _batches(images, size_pixels, batch, device):
            say(f"scoring: {first} of {len(images)} images")
            if fid is not None:
                fid.update(pixels, real=False)
            if inception is not None:
                inception.update(pixels)
            if clip is not None:
                clip.update(list(pixels), list(prompts[first : first + len(pixels)]))
        if fid is not None:
            for first, pixels in _batches(real, size_pixels, batch, device):
                say(f"scoring: {first} of {len(real)} real images")
                fid.update(pixels, real=True)

        # 3. Results
        found: dict[str, float | None] = {}
        if inception is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(split_seed)  # it shuffles before it splits
                mean, std = inception.compute() if splits > 1 else _single(inception)
            found |= {"inception_score": float(mean), "inception_score_std": std and float(std)}
        if fid is not None:
            found["fid"] = float(fid.compute())
        if clip is not None:
            found["clip_score"] = float(clip.compute()) / 100
    for name, value in found.items():
        if value is not None and not math.isfinite(value):
            raise InputError(f"{name} is {value}: the network gave values that are no numbers.")
    return found


def _metrics(
    networks: ScoreNetworks, size_pixels: int, splits: int, device: str
) -> tuple[Any, Any, Any]:
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.multimodal.clip_score import CLIPScore

    fid = inception = clip = None
    with warnings.catch_warnings():  # that logits of all images are kept: 120 MB for 30,000
        warnings.simplefilter("ignore", UserWarning)
        if networks.features is not None:
            shape = (3, size_pixels, size_pixels)
            fid = FrechetInceptionDistance(networks.features, input_img_size=shape).to(device)
        if networks.logits is not None:
            inception = InceptionScore(networks.logits, splits=splits).to(device)
        if (pair := networks.clip) is not None:
            clip = CLIPScore(lambda: pair).to(device)
    return fid, inception, clip


def _single(inception: Any) -> tuple[torch.Tensor, None]:
    """The score of one split, which has no deviation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return inception.compute()[0], None


def _batches(
    paths: Sequence[Path], size_pixels: int, batch: int, device: str
) -> Iterator[tuple[int, torch.Tensor]]:
    """The number of the first image and bytes [n, 3, size, size]."""
    for first in range(0, len(paths), batch):
        part = [_pixels(path, size_pixels) for path in paths[first : first + batch]]
        yield first, torch.stack(part).to(device)


def _pixels(path: Path, size_pixels: int) -> torch.Tensor:
    try:
        image = decoded(path.read_bytes())
    except UnreadableImageError as error:
        raise InputError(
            f"{path} cannot be read: {error}. Expected an image. If the evaluation drew it, delete "
            "it and repeat the command."
        ) from error
    image = image.crop(square_boxes(*image.size)["centre"])
    if image.width != size_pixels:
        image = image.resize((size_pixels, size_pixels), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image).transpose(2, 0, 1))
