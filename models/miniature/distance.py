"""Fréchet distance (Heusel et al., 2017) of drawn pictures to true ones, and of resamples of them.

Both sides are seen through the judge's features; each is taken for a Gaussian. The distance of 256
pictures is biased upwards, as all of few pictures are: compare those of as many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

RESAMPLES = 200
_SEED = 0
_AT_ONCE = 25


@dataclass(frozen=True, slots=True)
class Gaussian:
    """``mean`` [.., d] and ``covariance`` [.., d, d], float64."""

    mean: torch.Tensor
    covariance: torch.Tensor

    @classmethod
    def of(cls, features: torch.Tensor) -> Gaussian:
        """Of [.., n, d], n at least 2."""
        samples = features.double()
        mean = samples.mean(-2)
        apart = samples - mean[..., None, :]
        return cls(mean, apart.mT @ apart / (samples.shape[-2] - 1))

    def distance(self, other: Gaussian) -> torch.Tensor:
        """[..]: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2); ``other`` is a single one."""
        # tr (C1 C2)^1/2 by the eigenvalues of the symmetric R C1 R, R the root of C2: the product
        # itself is not symmetric, and its root is where implementations lose their digits.
        values, vectors = torch.linalg.eigh(other.covariance)
        root = vectors * values.clamp(min=0).sqrt() @ vectors.mT
        shared = torch.linalg.eigvalsh(root @ self.covariance @ root).clamp(min=0).sqrt().sum(-1)
        traces = torch.einsum("...ii->...", self.covariance) + torch.trace(other.covariance)
        apart: torch.Tensor = ((self.mean - other.mean) ** 2).sum(-1) + traces - 2 * shared
        return apart


def distances(features: torch.Tensor, reference: Gaussian) -> list[float]:
    """Of the pictures with ``features`` [n, d], then of ``RESAMPLES`` resamples of them, the same
    ones for all networks that drew n prompts."""
    count = len(features)
    drawn = np.random.default_rng((_SEED, count)).integers(count, size=(RESAMPLES, count))
    rows = torch.cat([torch.arange(count)[None], torch.from_numpy(drawn)])
    parts = [
        Gaussian.of(features[part]).distance(reference) for part in torch.split(rows, _AT_ONCE)
    ]
    found: list[float] = torch.cat(parts).tolist()
    return found
