"""The search itself: Optuna chooses points, workers time them, a study in a database keeps them.

One process leads: it alone asks and tells. It asks a copy of the study in memory, and the database
gets a trial when it is finished, whole and at once: whatever ends a process, nothing is there by
half. Every trial has an index, and what is drawn for an index follows from the seed: a study that
was interrupted goes on as it would have. What a sampler draws a second time is not computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from edgefusion.runtime.errors import InputError, in_brief
from edgefusion.runtime.progress import Say, silent
from edgefusion.toolchain.exploring.findings import Findings, Found
from edgefusion.toolchain.exploring.models import bundle_digest
from edgefusion.toolchain.exploring.parameters import (
    MODEL,
    OTHERS,
    SCHEDULE,
    STEPS,
    Choices,
    Parameter,
    Value,
)
from edgefusion.toolchain.exploring.suite import Suite
from edgefusion.toolchain.exploring.sweep import Timed
from edgefusion.toolchain.exploring.trial import Job, Outcome, evaluate
from edgefusion.toolchain.exploring.workers import Workers

_POINT, _FIGURES, _PROBLEM = "point", "figures", "problem"
_POPULATION = 50
_STARTUP = 10


def open_study(suite: Suite, storage: str) -> optuna.Study:
    """The suite's study in a storage, with what was found before; a changed suite is another.

    Raises InputError for a storage that cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        return optuna.create_study(
            storage=optuna.storages.RDBStorage(storage),
            study_name=f"{suite.name}-{suite.digest[:12]}",
            directions=suite.directions,
            load_if_exists=True,
        )
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        kind = storage.partition(":")[0]
        raise InputError(
            f"cannot use the storage ({kind}): {type(error).__name__}: {error}. Expected the URL "
            "of a database that is there, as in sqlite:///study.db."
        ) from error


def findings(suite: Suite, study: optuna.Study) -> Findings:
    """What was found up to now, by index."""
    found = [_found(trial) for trial in study.get_trials(deepcopy=False)]
    return Findings(
        suite.name, suite.digest, suite.objectives, suite.trials, tuple(sorted(found, key=_index))
    )


def search(
    suite: Suite,
    study: optuna.Study,
    workers: Workers,
    *,
    compute: Callable[[Job], Outcome] = evaluate,
    progress: Say = silent,
) -> None:
    """Compute the trials that are missing. Raises what ``Workers.first_done`` does; what was told
    before is kept."""
    copy = optuna.create_study(directions=suite.directions)
    copy.add_trials(study.get_trials(deepcopy=False))
    found = findings(suite, study).trials
    known = {_key(each.values): each.outcome for each in found}
    told = {each.index for each in found}
    digests = {name: bundle_digest(bundle) for name, bundle in suite.models.items()}
    running: dict[Any, _Asked] = {}
    done = len(told & set(range(suite.trials)))

    def tell(asked: _Asked, outcome: Outcome) -> None:
        nonlocal done
        finished = _tell(suite, copy, asked, outcome)
        try:
            study.add_trial(finished)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise InputError(
                f"the storage takes no more trials: {in_brief(error)}. What it has is kept: repeat "
                "the command once it does, and it goes on."
            ) from error
        known[_key(asked.values)] = outcome
        done += 1
        progress(f"trial {done} of {suite.trials}")

    progress(f"trial {done} of {suite.trials}")
    for index in (index for index in range(suite.trials) if index not in told):
        asked = _ask(suite, copy, index)
        if before := known.get(_key(asked.values)):
            tell(asked, before)
            continue
        running[workers.submit(compute, _job(suite, digests, asked.values))] = asked
        if len(running) >= workers.slots:
            for future, outcome in workers.first_done(list(running)):
                tell(running.pop(future), outcome)
    while running:
        for future, outcome in workers.first_done(list(running)):
            tell(running.pop(future), outcome)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A point to be timed, and Optuna's trial of it."""

    index: int
    values: Mapping[str, Value]
    trial: optuna.Trial


def _ask(suite: Suite, copy: optuna.Study, index: int) -> _Asked:
    """The point of an index."""
    parameters: list[Parameter] = list(suite.parameters)
    if suite.sampler == "grid":
        copy.enqueue_trial(dict(_grid_point(suite, index)))
        parameters = [Choices(each.name, each.grid()) for each in parameters]
    copy.sampler = _sampler(suite, index)
    trial = copy.ask()
    return _Asked(index, {each.name: each.suggest(trial) for each in parameters}, trial)


def _tell(suite: Suite, copy: optuna.Study, asked: _Asked, outcome: Outcome) -> FrozenTrial:
    """The finished trial, for the database to keep."""
    asked.trial.set_user_attr(_POINT, {"index": asked.index, "values": dict(asked.values)})
    if outcome.timed is None:
        asked.trial.set_user_attr(_PROBLEM, outcome.problem)
        return copy.tell(asked.trial, state=TrialState.FAIL)
    sqnr_db = suite.sqnr_db[str(asked.values[MODEL])]
    figures = asdict(outcome.timed) | {"sqnr_db": sqnr_db}
    asked.trial.set_user_attr(_FIGURES, figures)
    return copy.tell(asked.trial, [float(figures[name]) for name in suite.objectives])


def _job(suite: Suite, digests: Mapping[str, str], values: Mapping[str, Value]) -> Job:
    model = str(values[MODEL])
    steps = values.get(STEPS)
    schedule = values.get(SCHEDULE)
    return Job(
        str(suite.models[model].path.absolute()),
        digests[model],
        {k: v for k, v in values.items() if k not in OTHERS and not isinstance(v, str)},
        suite.target,
        suite.lower_again,
        None if schedule is None else str(schedule),
        None if steps is None else int(steps),
    )


def _sampler(suite: Suite, index: int) -> optuna.samplers.BaseSampler:
    """What draws for an index; its seed is the suite's and the index."""
    drawn = hashlib.sha256(f"{suite.seed} {index}".encode()).digest()
    seed = int.from_bytes(drawn[:4], "big")
    if suite.sampler == "tpe":
        startup = min(_STARTUP, max(2, suite.trials // 4))
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
    if suite.sampler == "nsga2":
        population = min(_POPULATION, max(4, suite.trials // 4))
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=population)
    return optuna.samplers.RandomSampler(seed=seed)


def _grid_point(suite: Suite, index: int) -> Iterator[tuple[str, Value]]:
    """The values of a grid's point; the last parameter changes fastest."""
    grids = [parameter.grid() for parameter in suite.parameters]
    for number, (parameter, grid) in enumerate(zip(suite.parameters, grids, strict=True)):
        after = prod(map(len, grids[number + 1 :]))
        yield parameter.name, grid[index // after % len(grid)]


def _found(trial: FrozenTrial) -> Found:
    kept = dict(trial.user_attrs.get(_FIGURES, {}))
    sqnr_db = kept.pop("sqnr_db", None)
    timed = Timed(**kept) if kept else None
    point = trial.user_attrs[_POINT]
    return Found(
        point["index"], point["values"], timed, sqnr_db, trial.user_attrs.get(_PROBLEM, "")
    )


def _index(found: Found) -> int:
    return found.index


def _key(values: Mapping[str, Value]) -> str:
    return json.dumps(dict(values), sort_keys=True)
