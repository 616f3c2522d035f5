"""The order in which a training run sees its data: a function of the seed and the position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from edgefusion.models.training.draws import key
from edgefusion.runtime.errors import EdgeFusionError, InputError

Batch = dict[str, Any]
"""By name: ``pixels`` or ``latents``, and ``input_ids`` or ``context``, first axis the samples."""


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> list[int]:
    generator = torch.Generator().manual_seed(key(seed, "epoch", epoch))
    order: list[int] = torch.randperm(size, generator=generator).tolist()
    return order


@dataclass(frozen=True)
class EndlessBatches(Sampler[list[int]]):
    """Indices of this process's batches from number ``first`` on, without end.

    All processes together walk one stream of shuffled epochs, ``world`` batches at a time; a batch
    may begin in one epoch and end in the next, so that none is dropped or seen twice.
    """

    size: int
    batch_size: int
    seed: int
    first: int = 0
    rank: int = 0
    world: int = 1

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of indices."""
        number = self.first
        while True:
            begin = (number * self.world + self.rank) * self.batch_size
            yield [self._index(position) for position in range(begin, begin + self.batch_size)]
            number += 1

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, self.size)
        return _permutation(self.seed, epoch, self.size)[place]


def batches(dataset: Any, sampler: EndlessBatches, workers: int = 0) -> Iterator[Batch]:
    """Collated samples of ``dataset`` (indexable, each sample a dict of tensors).

    Raises InputError for an empty dataset, and for a sample what the dataset raises. A sample must
    depend on its index alone, or a resumed run will not repeat the interrupted one.
    """
    if not len(dataset):
        raise InputError("the dataset is empty; expected at least one captioned image.")
    loader: DataLoader[Batch] = DataLoader(
        _Guarded(dataset),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_collated,
        pin_memory=torch.cuda.is_available(),
        # Its own, so that starting to read leaves torch's generator as it is.
        generator=torch.Generator().manual_seed(key(sampler.seed, "workers", sampler.first)),
    )
    for batch in loader:
        if isinstance(batch, EdgeFusionError):
            raise batch
        yield batch


@dataclass(frozen=True)
class _Guarded(Dataset[Any]):
    """Gives a user's error as a sample: raised in a worker it would arrive as a traceback."""

    samples: Any

    def __getitem__(self, index: int) -> Any:
        try:
            return self.samples[index]
        except EdgeFusionError as error:
            return error


def _collated(samples: list[Any]) -> Any:
    errors = [sample for sample in samples if isinstance(sample, EdgeFusionError)]
    return errors[0] if errors else default_collate(samples)
