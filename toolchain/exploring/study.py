"""The search itself: Optuna's study chooses points and keeps what they gave, workers time them.

One process leads: it alone asks and tells, so that a trial is told once or not at all, and storage
needs no more than one writer. Every trial has an index, and what is drawn for an index follows
from the seed: a study that was interrupted goes on as it would have. Trials that were being
computed then are marked as failed, without figures, and their indices are tried again. What a
sampler draws a second time is not computed a second time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import count
from math import prod
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.progress import Say, silent
from edgefusion.toolchain.exploring.findings import Findings, Found
from edgefusion.toolchain.exploring.models import bundle_digest
from edgefusion.toolchain.exploring.parameters import MODEL, OTHERS, SCHEDULE, STEPS, Choices, Value
from edgefusion.toolchain.exploring.suite import Suite
from edgefusion.toolchain.exploring.sweep import Timed
from edgefusion.toolchain.exploring.trial import Job, Outcome, evaluate
from edgefusion.toolchain.exploring.workers import Workers

_INDEX, _VALUES, _FIGURES, _PROBLEM = "index", "values", "figures", "problem"
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
    found = [_found(trial) for trial in study.get_trials(deepcopy=False) if _is_told(trial)]
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
    _forget_interrupted(study)
    found = {_key(each.values): each.outcome for each in findings(suite, study).trials}
    told = {_index_of(trial) for trial in study.get_trials(deepcopy=False) if _is_told(trial)}
    missing = iter([index for index in range(suite.trials) if index not in told])
    done = suite.trials - sum(1 for index in range(suite.trials) if index not in told)
    digests = {name: bundle_digest(bundle) for name, bundle in suite.models.items()}
    running: dict[Any, tuple[optuna.Trial, dict[str, Value]]] = {}
    progress(f"trial {done} of {suite.trials}")
    while True:
        repeated = False
        for index in _up_to(missing, workers.slots - len(running)):
            trial, values = _ask(suite, study, index)
            if known := found.get(_key(values)):
                _tell(suite, study, trial, str(values[MODEL]), known)
                done += 1
                repeated = True
                continue
            job = _job(suite, digests, values)
            running[workers.submit(compute, job)] = trial, values
        if repeated:
            continue
        if not running:
            return
        for future, outcome in workers.first_done(list(running)):
            trial, values = running.pop(future)
            _tell(suite, study, trial, str(values[MODEL]), outcome)
            found[_key(values)] = outcome
            done += 1
            progress(f"trial {done} of {suite.trials}")


def _ask(suite: Suite, study: optuna.Study, index: int) -> tuple[optuna.Trial, dict[str, Value]]:
    """A new trial for an index, and its values."""
    study.sampler = _sampler(suite, index)
    if suite.sampler == "grid":
        study.enqueue_trial(dict(_grid_point(suite, index)))
    trial = study.ask()
    if suite.sampler == "grid":
        values = {p.name: Choices(p.name, p.grid()).suggest(trial) for p in suite.parameters}
    else:
        values = {parameter.name: parameter.suggest(trial) for parameter in suite.parameters}
    trial.set_user_attr(_VALUES, values)
    trial.set_user_attr(_INDEX, index)
    return trial, values


def _tell(
    suite: Suite, study: optuna.Study, trial: optuna.Trial, model: str, outcome: Outcome
) -> None:
    """Keep an outcome; from here on nothing loses it."""
    if outcome.timed is None:
        trial.set_user_attr(_PROBLEM, outcome.problem)
        study.tell(trial, state=TrialState.FAIL)
        return
    figures = asdict(outcome.timed) | {"sqnr_db": suite.sqnr_db[model]}
    trial.set_user_attr(_FIGURES, figures)
    study.tell(trial, [float(figures[name]) for name in suite.objectives])


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


def _forget_interrupted(study: optuna.Study) -> None:
    """Trials that a process which is no more was at: they have no figures, and fail."""
    for _ in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.tell(study.ask(), state=TrialState.FAIL)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def _is_told(trial: FrozenTrial) -> bool:
    return trial.state is TrialState.COMPLETE or _PROBLEM in trial.user_attrs


def _found(trial: FrozenTrial) -> Found:
    kept = dict(trial.user_attrs.get(_FIGURES, {}))
    sqnr_db = kept.pop("sqnr_db", None)
    timed = Timed(**kept) if kept else None
    problem = trial.user_attrs.get(_PROBLEM, "")
    values = json.loads(json.dumps(trial.user_attrs[_VALUES]))
    return Found(trial.user_attrs[_INDEX], values, timed, sqnr_db, problem)


def _key(values: Mapping[str, Value]) -> str:
    return json.dumps(dict(values), sort_keys=True)


def _index_of(trial: FrozenTrial) -> int:
    return int(trial.user_attrs[_INDEX])


def _index(found: Found) -> int:
    return found.index


def _up_to(items: Iterator[int], most: int) -> Iterator[int]:
    for _ in zip(count(), range(most), strict=False):
        if (item := next(items, None)) is None:
            return
        yield item
