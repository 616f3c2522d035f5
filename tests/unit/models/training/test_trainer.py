"""The loop: exact resuming, overfitting, accumulation, and errors that lose nothing."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgefusion.models.training.checkpoints import CheckpointStore
from edgefusion.models.training.draws import Draws
from edgefusion.models.training.moving_average import MovingAverage
from edgefusion.models.training.objective import Losses
from edgefusion.models.training.settings import Optimizer, Run
from edgefusion.models.training.trainer import Training, learning_rate, train
from edgefusion.runtime.errors import NumericGateError, UsageError
from tests.training_cases import Latents, kd_training

RUN = Run(
    steps=20, batch_size=2, accumulation=1, log_every=1, checkpoint_every=10, tensorboard="off"
)


def last(folder: Path, name: str) -> dict[str, torch.Tensor]:
    newest = max((folder / "checkpoints").iterdir())
    tensors: dict[str, torch.Tensor] = load_file(newest / f"{name}.safetensors")
    return tensors


def logged(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_twenty_steps_are_ten_and_ten_more(tmp_path: Path) -> None:
    """Bit for bit: weights, average, optimizer and log; networks with dropout, captions dropped."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(kd_training(whole, RUN))
    train(kd_training(parts, replace(RUN, steps=10)))
    torch.manual_seed(999)  # whatever else happened in between
    said: list[str] = []
    train(kd_training(parts, RUN), resume=True, say=said.append)
    assert "resumed at step 10" in said
    for name in ("student", "average"):
        one, two = last(whole, name), last(parts, name)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    states = [
        torch.load(folder / "checkpoints" / "step-00000020" / "state.pt", weights_only=True)
        for folder in (whole, parts)
    ]
    for one, two in zip(*(state["optimizer"]["state"].values() for state in states), strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert states[0]["average_updates"] == states[1]["average_updates"] == 20
    assert logged(whole) == logged(parts)
    assert len(logged(whole)) == 20


def test_steps_after_the_checkpoint_are_done_again(tmp_path: Path) -> None:
    """Killed at step 13: the log's rows 11 to 13 are not there twice."""
    run = replace(RUN, steps=14, checkpoint_every=5)
    killed = kd_training(tmp_path, run)
    with pytest.raises(SystemExit):
        train(replace(killed, validate=_exit, validate_every=13))
    assert len(logged(tmp_path)) == 13
    train(kd_training(tmp_path, run), resume=True)
    assert [int(row["step"]) for row in logged(tmp_path)] == list(range(1, 15))


def _exit(_step: int) -> None:
    raise SystemExit


def test_resuming_nothing_begins(tmp_path: Path) -> None:
    train(kd_training(tmp_path, replace(RUN, steps=1)), resume=True)
    assert len(logged(tmp_path)) == 1


class Regression:
    """An objective that draws nothing: pulls its student's outputs to one."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.student: nn.Module = nn.Conv2d(4, 4, 1)
        self.average = MovingAverage(self.student, 0.9)
        self.frozen: tuple[nn.Module, ...] = ()

    def losses(self, student: Any, batch: Any, draws: Draws) -> Losses:
        loss = ((student(batch["latents"]) - 1) ** 2).mean()
        return Losses(loss, {"task": loss.detach()})


def test_accumulation_is_a_larger_batch(tmp_path: Path) -> None:
    weights = []
    for batch_size, accumulation in ((4, 1), (2, 2)):
        run = replace(RUN, steps=5, batch_size=batch_size, accumulation=accumulation)
        objective = Regression()
        folder = tmp_path / str(accumulation)
        train(Training(objective, Latents(), run, Optimizer(learning_rate=0.01), folder))
        weights.append(objective.student.get_parameter("weight").detach())
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)
    # AdamW forgives a gradient's scale, the log does not.
    norms = [[float(row["gradient_norm"]) for row in logged(tmp_path / n)] for n in ("1", "2")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.parametrize(
    ("weights", "learnt"),
    [
        ({"output_weight": 0.0, "feature_weight": 0.0}, {"task": 0.7}),
        ({"task_weight": 0.0}, {"output": 0.5, "feature": 0.5}),
    ],
)
def test_eight_images_are_learnt(
    tmp_path: Path, weights: dict[str, float], learnt: dict[str, float]
) -> None:
    """Overfitting: the noise in eight known latents, and what a teacher makes of them.

    A network of ten thousand parameters cannot do that well; a quarter to a half of the loss is
    gone after 60 steps.
    """
    run = replace(RUN, steps=60, batch_size=8, checkpoint_every=60)
    optimizer = Optimizer(learning_rate=7e-3)
    train(kd_training(tmp_path, run, optimizer, dropout=0.0, caption_dropout=0.0, **weights))
    rows = logged(tmp_path)
    for term, factor in learnt.items():
        first, final = (sum(float(row[term]) for row in part) for part in (rows[:8], rows[-8:]))
        assert final < factor * first, (term, first / 8, final / 8)


def test_not_a_number_reaches_no_checkpoint(tmp_path: Path) -> None:
    training = kd_training(tmp_path, replace(RUN, checkpoint_every=2))
    honest = training.objective.losses

    def broken(student: Any, batch: Any, draws: Draws) -> Losses:
        losses = honest(student, batch, draws)
        return Losses(losses.total * (float("nan") if draws.batch == 3 else 1.0), losses.terms)

    training.objective.losses = broken  # type: ignore[method-assign]
    with pytest.raises(NumericGateError, match=r"loss of step 4 is not finite \(total nan, task"):
        train(training)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    assert all(bool(t.isfinite().all()) for t in last(tmp_path, "student").values())


def test_average_is_stepped_and_saved(tmp_path: Path) -> None:
    training = kd_training(tmp_path, replace(RUN, steps=3))
    train(training)
    assert training.objective.average.updates == 3
    student, average = last(tmp_path, "student"), last(tmp_path, "average")
    assert any(not torch.equal(student[key], average[key]) for key in student)
    shadow = training.objective.average.network.state_dict()
    assert all(torch.equal(average[key], shadow[key]) for key in average)


def test_warm_up() -> None:
    rates = [learning_rate(Optimizer(learning_rate=1.0, warmup_steps=3), step) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert learning_rate(Optimizer(learning_rate=1.0), 0) == 1.0


def test_gradient_checkpointing_takes_the_same_steps(tmp_path: Path) -> None:
    weights = []
    for name, checkpointing in (("plain", False), ("checkpointed", True)):
        training = kd_training(tmp_path / name, replace(RUN, steps=2))
        if checkpointing:
            training.objective.student.enable_gradient_checkpointing()  # type: ignore[operator]
        train(training)
        weights.append(last(tmp_path / name, "student"))
    for key, plain in weights[0].items():
        torch.testing.assert_close(plain, weights[1][key], rtol=1e-4, atol=1e-5)


def test_tensorboard_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(kd_training(tmp_path, replace(RUN, steps=3, tensorboard="on")))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    rows = logged(tmp_path)
    for term in ("total", "task", "output", "feature"):
        values = [event.value for event in events.Scalars(term)]
        assert values == pytest.approx([float(row[term]) for row in rows], rel=1e-6)


def test_mixed_precision(tmp_path: Path) -> None:
    """Frozen networks are cast, the student's weights and its average stay float32."""
    training = kd_training(tmp_path, replace(RUN, steps=2, mixed_precision="bf16"))
    train(training)
    objective: Any = training.objective
    assert next(objective.teacher.parameters()).dtype == torch.bfloat16
    for name in ("student", "average"):
        assert {tensor.dtype for tensor in last(tmp_path, name).values()} == {torch.float32}
    assert all(float(row["total"]) > 0 for row in logged(tmp_path))


def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    train(kd_training(tmp_path, replace(RUN, steps=1)))
    store = CheckpointStore(tmp_path / "checkpoints")
    objective = kd_training(tmp_path, RUN).objective
    networks = {"student": objective.student, "average": objective.average.network}
    store.save(2, networks, {**store.load(1, networks), "processes": 4})
    with pytest.raises(UsageError, match="the run had 4 processes, now there are 1"):
        train(kd_training(tmp_path, RUN), resume=True)


def test_tensorboard_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(kd_training(tmp_path / "auto", replace(RUN, steps=1, tensorboard="auto")))
    assert len(logged(tmp_path / "auto")) == 1
    with pytest.raises(UsageError, match="pip install tensorboard"):
        train(kd_training(tmp_path / "on", replace(RUN, steps=1, tensorboard="on")))
