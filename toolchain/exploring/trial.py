"""One trial, as a worker computes it: a bundle, timed in one scenario. A function of its job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.errors import DoesNotFitError, InputError
from edgefusion.runtime.target import Target
from edgefusion.toolchain.exploring.models import bundle_digest
from edgefusion.toolchain.exploring.sweep import Timed
from edgefusion.toolchain.profiling.kept_bundle import KeptBundle
from edgefusion.toolchain.profiling.profile import profile_bundle
from edgefusion.toolchain.profiling.scenario import scenario_of


@dataclass(frozen=True, slots=True)
class Job:
    """What to time. ``target``, ``schedule`` and ``steps`` are the bundle's own where None."""

    bundle: str
    digest: str
    settings: Mapping[str, int | float]
    target: Target | None = None
    lower_again: bool = False
    schedule: str | None = None
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured, or the ``problem`` for which nothing was."""

    timed: Timed | None
    problem: str = ""


def evaluate(job: Job) -> Outcome:
    """Time it. What does not fit is an outcome; raises InputError where the bundle is not there, or
    another one is."""
    bundle = _bundle(job.bundle, job.digest)
    scenario = scenario_of(
        bundle,
        settings=[f"{key}={value!r}" for key, value in job.settings.items()],
        target=job.target,
        schedule=job.schedule,
        steps=job.steps,
        lower_again=job.lower_again,
    )
    try:
        return Outcome(Timed.of(profile_bundle(bundle, scenario, verify=False)))
    except DoesNotFitError as error:
        return Outcome(None, str(error))


@lru_cache(maxsize=4)
def _bundle(path: str, digest: str) -> KeptBundle:
    """A worker's own copy; its networks are read once for all its trials."""
    bundle = Bundle.open(Path(path), verify=False)
    if bundle_digest(bundle) != digest:
        raise InputError(
            f"{path} is another bundle for this worker than for the process that leads; let both "
            "see the same file, and start again if it was replaced."
        )
    return KeptBundle.of(bundle)
