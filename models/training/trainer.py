"""The training loop, for any ``Objective``, in one or many processes.

Everything random is a function of seed and position (``draws``, ``batches``), so a run that was
interrupted and resumed does on a CPU, bit for bit, what it would have done without a break.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from edgefusion.models.training.batches import Batch, EndlessBatches, batches
from edgefusion.models.training.checkpoints import CheckpointStore
from edgefusion.models.training.draws import Draws, key
from edgefusion.models.training.run_log import RunLog
from edgefusion.runtime.errors import NumericGateError, UsageError
from edgefusion.runtime.progress import Say, silent

if TYPE_CHECKING:
    from edgefusion.models.training.objective import Objective
    from edgefusion.models.training.settings import Optimizer, Run

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
Validate = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Training:
    """What a run consists of. ``folder`` gets checkpoints/, log.csv and tensorboard/;
    ``validate`` is called in the main process with the number of steps done, every
    ``validate_every`` of them."""

    objective: Objective
    dataset: Any
    run: Run
    optimizer: Optimizer
    folder: Path
    workers: int = 0
    validate: Validate | None = None
    validate_every: int = 1000


def train(training: Training, *, resume: bool = False, say: Say | None = None) -> None:
    """Run all steps; with ``resume`` from the last whole checkpoint, if there is one.

    Raises NumericGateError for a loss that is NaN or infinite (nothing of it is saved),
    UsageError for a resumed run with another number of processes, and what datasets, objectives
    and checkpoints raise.
    """
    run, objective = training.run, training.objective
    # 1. Processes, precision, networks
    accelerator = Accelerator(mixed_precision=run.mixed_precision)
    tell = (say or silent) if accelerator.is_main_process else silent
    for network in objective.frozen:
        network.to(accelerator.device)
        if run.mixed_precision != "no":
            network.to(_DTYPES[run.mixed_precision])
    objective.average.network.to(accelerator.device)
    student, optimizer = accelerator.prepare(
        objective.student.train(), _optimizer(objective.student.parameters(), training.optimizer)
    )
    networks = {"student": objective.student, "average": objective.average.network}

    # 2. Where an earlier run stopped
    store = CheckpointStore(training.folder / "checkpoints", run.keep_checkpoints)
    first = (store.latest(tell) or 0) if resume else 0
    if first:
        _restore(store.load(first, networks), objective, optimizer, accelerator)
        tell(f"resumed at step {first}")

    # 3. Steps
    stream = batches(
        training.dataset,
        EndlessBatches(
            size=len(training.dataset),
            batch_size=run.batch_size,
            seed=run.seed,
            first=first * run.accumulation,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        ),
        training.workers,
    )
    logging = (
        RunLog(training.folder, first, run.tensorboard)
        if accelerator.is_main_process
        else nullcontext()
    )
    begin = time.perf_counter()
    with logging as log:
        for step in range(first, run.steps):
            set_seed(key(run.seed, "step", step, accelerator.process_index) % 2**32)
            rate = learning_rate(training.optimizer, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            values = _gradients(accelerator, student, stream, objective, run, step)
            _check_finite(values, step + 1)
            norm = accelerator.clip_grad_norm_(
                student.parameters(), training.optimizer.max_gradient_norm
            )
            optimizer.step()
            optimizer.zero_grad()
            if not optimizer.step_was_skipped:  # by the scaler of FP16, after an overflow
                objective.average.update(objective.student)

            # 4. What is written on the way
            done = step + 1
            seconds = time.perf_counter() - begin
            left = _duration(seconds / (done - first) * (run.steps - done))
            tell(f"step {done} of {run.steps}, loss {values['total']:.4g}, {left} left")
            if log is not None:
                extra = {"gradient_norm": float(norm or 0), "learning_rate": rate}
                if _due(done, run.log_every, run.steps):
                    log.write(done, {**values, **extra, "seconds": seconds})
                if _due(done, run.checkpoint_every, run.steps):
                    store.save(done, networks, _state(objective, optimizer, accelerator))
                if training.validate and _due(done, training.validate_every, run.steps):
                    training.validate(done)
                    objective.student.train()
            accelerator.wait_for_everyone()


def _due(done: int, every: int, steps: int) -> bool:
    """Every so many steps, and at the end."""
    return done % every == 0 or done == steps


def learning_rate(optimizer: Optimizer, step: int) -> float:
    """Of the step number ``step``, from 0: linear over the warm-up, then constant."""
    return optimizer.learning_rate * min(1.0, (step + 1) / (optimizer.warmup_steps + 1))


def _gradients(
    accelerator: Any, student: Any, stream: Any, objective: Objective, run: Run, step: int
) -> dict[str, float]:
    """Add up the gradients of a step's batches; their losses, means over batches and processes."""
    sums: dict[str, torch.Tensor] = {}
    for number in range(run.accumulation):
        batch: Batch = {
            name: value.to(accelerator.device, non_blocking=True)
            for name, value in next(stream).items()
            if isinstance(value, torch.Tensor)
        }
        draws = Draws(
            run.seed,
            step * run.accumulation + number,
            accelerator.process_index,
            accelerator.num_processes,
            accelerator.device,
        )
        last = number == run.accumulation - 1
        # Processes exchange gradients once a step, during the last backward.
        with nullcontext() if last else accelerator.no_sync(student):
            with accelerator.autocast():
                losses = objective.losses(student, batch, draws)
            accelerator.backward(losses.total / run.accumulation)
        terms = {"total": losses.total.detach(), **losses.terms}
        for name, term in terms.items():
            sums[name] = sums.get(name, 0) + term.float() / run.accumulation
    means = accelerator.reduce(torch.stack(list(sums.values())), "mean")
    return dict(zip(sums, means.tolist(), strict=True))


def _optimizer(parameters: Any, settings: Optimizer) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
    )


def _state(objective: Objective, optimizer: Any, accelerator: Any) -> dict[str, Any]:
    """All of a run's state besides the networks' weights and the position, which is the step."""
    return {
        "optimizer": optimizer.state_dict(),
        "average_updates": objective.average.updates,
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
        "processes": accelerator.num_processes,
    }


def _restore(
    state: Mapping[str, Any], objective: Objective, optimizer: Any, accelerator: Any
) -> None:
    if state["processes"] != accelerator.num_processes:
        raise UsageError(
            f"the run had {state['processes']} processes, now there are "
            f"{accelerator.num_processes}; expected the same, for the order of the data depends "
            "on it. Start as many as before."
        )
    optimizer.load_state_dict(state["optimizer"])
    objective.average.updates = state["average_updates"]
    if accelerator.scaler and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])


def _check_finite(values: Mapping[str, float], step: int) -> None:
    if not math.isfinite(values["total"]):
        terms = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        raise NumericGateError(
            f"the loss of step {step} is not finite ({terms}); the last checkpoint is from before. "
            "Lower optimizer.learning_rate, or use bf16 or no mixed precision, and go on with "
            "--resume."
        )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
