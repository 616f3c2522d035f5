"""Data and random numbers depend on position alone, and divide over processes."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from edgefusion.models.training.batches import EndlessBatches, batches
from edgefusion.models.training.draws import Draws
from edgefusion.runtime.errors import InputError
from tests.training_cases import Latents


def test_every_epoch_has_every_sample_once() -> None:
    stream = [i for batch in islice(EndlessBatches(10, 4, seed=3), 15) for i in batch]
    epochs = [stream[start : start + 10] for start in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6, "in another order each time"
    assert stream != [i for b in islice(EndlessBatches(10, 4, seed=4), 15) for i in b]


def test_going_on_where_it_stopped() -> None:
    whole = list(islice(EndlessBatches(7, 3, seed=0), 12))
    assert list(islice(EndlessBatches(7, 3, seed=0, first=5), 7)) == whole[5:]


def test_two_processes_share_the_batches_of_one() -> None:
    one = islice(EndlessBatches(9, 6, seed=1), 8)
    ranks = [islice(EndlessBatches(9, 3, seed=1, rank=r, world=2), 8) for r in range(2)]
    assert list(one) == [left + right for left, right in zip(*ranks, strict=True)]


def test_two_processes_share_the_draws_of_one() -> None:
    one = Draws(5, 2)
    left, right = (Draws(5, 2, rank, 2) for rank in range(2))
    for draw in (
        lambda d, n: d.normal("noise", (n, 3)),
        lambda d, n: d.uniform("w", n, 5.0, 15.0),
        lambda d, n: d.integers("t", n, 1000),
    ):
        assert torch.equal(draw(one, 4), torch.cat([draw(left, 2), draw(right, 2)]))
    assert left.coin("aware", 0.5) == right.coin("aware", 0.5) == one.coin("aware", 0.5)


def test_draws_differ_by_seed_batch_and_name() -> None:
    shape = (4, 4)
    seen = [
        Draws(seed, number).normal(name, shape)
        for seed in (0, 1)
        for number in (0, 1)
        for name in ("noise", "posterior")
    ]
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    w = Draws(0, 0).uniform("w", 1000, 5.0, 15.0)
    assert 5.0 <= float(w.min()) < 5.2
    assert 14.8 < float(w.max()) < 15.0


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_samples_arrive_as_they_are(workers: int) -> None:
    class Broken(Latents):
        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            if index == 6:
                raise InputError("6.png: unreadable image.")
            return super().__getitem__(index)

    with pytest.raises(InputError, match=r"^6\.png: unreadable image\.$"):
        list(islice(batches(Broken(), EndlessBatches(8, 2, seed=0), workers), 4))


def test_empty_dataset() -> None:
    with pytest.raises(InputError, match="empty"):
        next(batches(Latents(0), EndlessBatches(0, 2, seed=0)))
