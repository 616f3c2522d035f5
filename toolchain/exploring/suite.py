"""A suite: what an exploration searches, for what, and how, as a TOML file says it.

    schema_version = 1
    sampler = "tpe"                                  # grid | random | tpe | nsga2
    trials = 60                                      # a grid has as many as it has points
    objectives = ["latency_ms", "sram_bytes"]        # also sram_used_bytes, dram_bytes, sqnr_db

    [models.tiny]                                    # one bundle or more, alternatives
    bundle = "tiny.npub"                             # or source = "my-pipeline", recipe = "a.toml"

    [parameters]
    schedule = ["mlt", "pipelined"]
    sram = { first = "1MiB", last = "8MiB", step = "512KiB" }
    dma_bandwidth = { first = "10GB/s", last = "60GB/s", log = true }

Paths are relative to the file. Unknown keys are errors.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal, get_args

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.cost import COST_MODEL_VERSION
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.pipeline_roles import denoiser_of
from edgefusion.runtime.progress import Say, silent
from edgefusion.runtime.target import Target, load_target
from edgefusion.runtime.validation import Strict, Whole, validated
from edgefusion.toolchain.exploring.models import Model, open_model
from edgefusion.toolchain.exploring.parameters import (
    MODEL,
    STEPS,
    Choices,
    Parameter,
    parameter_of,
)

SUITE_VERSION = 1
Sampler = Literal["grid", "random", "tpe", "nsga2"]
SAMPLERS: tuple[str, ...] = get_args(Sampler)
Objective = Literal["latency_ms", "sram_bytes", "sram_used_bytes", "dram_bytes", "sqnr_db"]
HIGHER_IS_BETTER = ("sqnr_db",)
DEFAULT_TRIALS = 50
_MOST_POINTS = 100_000


@dataclass(frozen=True, slots=True)
class _File(Strict):
    schema_version: Literal[1]
    models: Mapping[str, Model]
    parameters: Mapping[str, Any]
    sampler: Sampler = "tpe"
    trials: Whole | None = None
    seed: Whole = 0
    objectives: tuple[Objective, ...] = ("latency_ms", "sram_bytes")
    target: str | None = None
    lower_again: bool = False


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite whose models are there. ``trials`` is how many there shall be; ``digest`` is of all
    that a trial's values depend on, and of how points are chosen."""

    name: str
    models: Mapping[str, Bundle]
    sqnr_db: Mapping[str, float | None]
    parameters: tuple[Parameter, ...]
    sampler: str
    trials: int
    seed: int
    objectives: tuple[str, ...]
    target: Target | None
    lower_again: bool
    digest: str = field(default="")

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """Which way each objective is better, as Optuna says it."""
        return ["maximize" if each in HIGHER_IS_BETTER else "minimize" for each in self.objectives]


def load_suite(
    path: Path, work_dir: Path, *, trials: int | None = None, progress: Say = silent
) -> Suite:
    """Read a suite, open its bundles, and compile those of sources into ``work_dir``.

    ``trials`` stands in place of the suite's own. Raises InputError, naming the key, for whatever
    is not understood, and what opening and compiling raise.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the suite {path}: {error}") from error
    given = validated(_File, data, f"suite {path}")
    if not given.models or not given.parameters or not given.objectives:
        raise InputError(
            f"suite {path}: expected a model, a parameter and an objective, or more of each."
        )
    if len(set(given.objectives)) != len(given.objectives):
        raise InputError(f"suite {path}: an objective is named twice.")
    try:
        return _suite(path, given, work_dir, trials, progress)
    except InputError as error:
        raise InputError(f"suite {path}: {error}") from error


def _suite(path: Path, given: _File, work_dir: Path, trials: int | None, progress: Say) -> Suite:
    folder = path.parent
    target = None
    if given.target is not None:
        beside = given.target.endswith(".toml")
        target = load_target(str(folder / given.target) if beside else given.target)
    opened = {
        name: open_model(name, model, folder, work_dir, progress)
        for name, model in given.models.items()
    }
    bundles = {name: each.bundle for name, each in opened.items()}
    first = next(iter(bundles.values()))
    machine = target.machine if target else first.machine
    parameters = [parameter_of(name, each, machine) for name, each in given.parameters.items()]
    names = [each.name for each in parameters]
    if len(set(names)) != len(names):
        raise InputError(f"a parameter is named twice, with its unit and without: {names}.")
    parameters += [Choices(MODEL, tuple(bundles))] if MODEL not in names else []
    _check_models(parameters, bundles)
    sqnr_db = {name: each.sqnr_db for name, each in opened.items()}
    if "sqnr_db" in given.objectives and (
        unknown := [name for name, value in sqnr_db.items() if value is None]
    ):
        raise InputError(
            f"objective sqnr_db: model {', '.join(unknown)} names no verification; give the file "
            'that `edgefusion verify --json` wrote, as in verification = "tiny.json".'
        )
    count = _trials(given, parameters, trials)
    made = {
        "cost_model_version": COST_MODEL_VERSION,
        "models": {name: each.digest for name, each in opened.items()},
        "sqnr_db": sqnr_db,
        "parameters": [repr(each) for each in parameters],
        "sampler": given.sampler,
        "seed": given.seed,
        "objectives": list(given.objectives),
        "target": target.machine.digest if target else None,
        "lower_again": given.lower_again,
    }
    digest = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
    return Suite(
        path.stem,
        bundles,
        sqnr_db,
        tuple(parameters),
        given.sampler,
        count,
        given.seed,
        given.objectives,
        target,
        given.lower_again,
        digest,
    )


def _check_models(parameters: list[Parameter], bundles: Mapping[str, Bundle]) -> None:
    for parameter in parameters:
        unknown = parameter.name == MODEL and set(parameter.grid()) - set(bundles)
        if unknown:
            raise InputError(
                f"parameter {MODEL}: there is no model {', '.join(map(str, unknown))}; there are "
                f"{', '.join(bundles)}."
            )
        if parameter.name == STEPS:
            for name, bundle in bundles.items():
                if denoiser_of(bundle.components) is None:
                    raise InputError(
                        f"parameter {STEPS}: model {name} has no denoiser (unet) to repeat."
                    )


def _trials(given: _File, parameters: list[Parameter], trials: int | None) -> int:
    """How many trials there shall be."""
    counted = [p.name for p in parameters if not isinstance(p, Choices) and p.count is not None]
    if given.sampler != "grid":
        if counted:
            raise InputError(f"parameter {counted[0]}: a count is for the sampler grid.")
        return trials or given.trials or DEFAULT_TRIALS
    if given.trials is not None or trials is not None:
        raise InputError("the sampler grid tries all its points; leave trials out.")
    points = prod(len(parameter.grid()) for parameter in parameters)
    if points > _MOST_POINTS:
        raise InputError(f"the grid has {points:,} points, more than {_MOST_POINTS:,}.")
    return points
