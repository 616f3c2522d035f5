"""Explorations: suites that are understood, searches that lose nothing and do nothing twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from edgefusion.cli.explore import trials_table
from edgefusion.runtime.errors import EdgeFusionError, InputError
from edgefusion.toolchain.exploring import suite as suites
from edgefusion.toolchain.exploring.findings import Findings
from edgefusion.toolchain.exploring.models import Model, OpenModel
from edgefusion.toolchain.exploring.pareto_plot import pareto_figure
from edgefusion.toolchain.exploring.study import findings, open_study, search
from edgefusion.toolchain.exploring.suite import Suite, load_suite
from edgefusion.toolchain.exploring.sweep import Timed
from edgefusion.toolchain.exploring.trial import Job, Outcome
from edgefusion.toolchain.exploring.workers import Workers, local_workers
from edgefusion.toolchain.profiling.kept_bundle import KeptBundle
from tests.bundle_cases import bundle_of, small_networks

GRID = """
schema_version = 1
sampler = "grid"
objectives = ["latency_ms", "sram_bytes"]
[models.small]
bundle = "small.npub"
[parameters]
schedule = ["mlt", "serial"]
sram = { first = "1MiB", last = "3MiB", step = "1MiB" }
dma_bandwidth = { first = "10GB/s", last = "40GB/s", log = true, count = 3 }
"""
SEARCH = GRID.replace('"grid"', '"random"\ntrials = 12').replace(", count = 3", "")


@pytest.fixture(scope="module")
def bundle() -> KeptBundle:
    return bundle_of(small_networks())


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "empty.db"
    optuna.storages.RDBStorage(f"sqlite:///{path}")
    return path


@pytest.fixture(autouse=True)
def databases(tmp_path: Path, empty_database: Path) -> None:
    """Those that tests name; making the tables takes longer than a search."""
    for name in ("s.db", "whole.db", "cut.db", "other.db"):
        shutil.copy(empty_database, tmp_path / name)


@pytest.fixture
def load(
    bundle: KeptBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Suite]:
    """Loads the text of a suite, whose models are all a bundle in memory."""

    def opened(name: str, model: Model, *_rest: Any) -> OpenModel:
        return OpenModel(bundle, str(model.bundle), 40.0 if model.verification else None)

    monkeypatch.setattr(suites, "open_model", opened)

    def from_text(text: str, trials: int | None = None) -> Suite:
        path = tmp_path / "suite.toml"
        path.write_text(text)
        return load_suite(path, tmp_path, trials=trials)

    return from_text


def figures_of(job: Job) -> Outcome:
    """In place of a simulation: what less than 1.5 MiB gives does not fit."""
    sram = int(job.settings["sram_bytes"])
    if sram < 1.5 * 2**20:
        return Outcome(None, "does not fit")
    latency = 1e12 / job.settings["dma_bandwidth_bytes_per_s"] + 2**30 / sram
    return Outcome(Timed(latency, latency / 2, 1000, sram, sram // 2, {"unet": latency / 2}))


class Instant:
    """Workers that compute at once; one end of the process may be asked for after some."""

    def __init__(self, slots: int = 3, die_after: int = 10**9) -> None:
        self.slots, self.left = slots, die_after
        self.jobs: list[Job] = []
        self.outcomes: dict[int, Outcome] = {}

    def submit(self, compute: Callable[[Job], Outcome], job: Job) -> int:
        self.jobs.append(job)
        self.outcomes[len(self.jobs)] = compute(job)
        return len(self.jobs)

    def first_done(self, futures: list[int]) -> list[tuple[int, Outcome]]:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return [(futures[-1], self.outcomes[futures[-1]])]  # not in the order of their beginning


def run(suite: Suite, storage: str, workers: Any) -> Findings:
    study = open_study(suite, storage)
    search(suite, study, workers, compute=figures_of)
    return findings(suite, study)


def points(found: Findings) -> list[str]:
    return [json.dumps(dict(trial.values), sort_keys=True) for trial in found.trials]


def test_a_grid_is_tried_once_and_whole(load: Callable[..., Suite], tmp_path: Path) -> None:
    suite = load(GRID)
    assert suite.trials == 18
    workers = Instant()
    found = run(suite, f"sqlite:///{tmp_path}/s.db", workers)
    assert len(found.trials) == len(set(points(found))) == len(workers.jobs) == 18
    assert sum(trial.timed is None for trial in found.trials) == 6
    best = min(t.timed.latency_ms for t in found.trials if t.timed)
    assert best == 1e12 / 40e9 + 2**30 / (3 * 2**20)
    again = Instant()
    assert run(suite, f"sqlite:///{tmp_path}/s.db", again) == found
    assert not again.jobs, "finished trials were done again"


@pytest.mark.parametrize("text", [GRID, SEARCH])
def test_what_is_cut_off_goes_on_as_it_would_have(
    load: Callable[..., Suite], tmp_path: Path, text: str
) -> None:
    suite = load(text)
    whole = run(suite, f"sqlite:///{tmp_path}/whole.db", Instant())
    cut = f"sqlite:///{tmp_path}/cut.db"
    before: list[Any] = []
    jobs: list[Job] = []
    for _ in range(suite.trials):
        workers = Instant(die_after=4)
        try:
            run(suite, cut, workers)
        except KeyboardInterrupt:
            jobs += workers.jobs
            now = findings(suite, open_study(suite, cut)).trials
            assert len(now) == len(before) + 4
            assert all(trial in now for trial in before), "a finished trial was lost"
            before = list(now)
            continue
        break
    after = findings(suite, open_study(suite, cut))
    assert after == whole
    assert max(Counter(trial.index for trial in after.trials).values()) == 1


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_samplers_find_what_is_good(
    load: Callable[..., Suite], tmp_path: Path, sampler: str
) -> None:
    suite = load(SEARCH.replace("random", sampler))
    found = run(suite, f"sqlite:///{tmp_path}/s.db", Instant(slots=1))
    assert len(found.trials) == 12
    assert found.front
    again = run(suite, f"sqlite:///{tmp_path}/other.db", Instant(slots=1))
    assert again == found, "the same seed gives another study"
    more = load(SEARCH.replace("random", sampler), trials=14)
    assert len(run(more, f"sqlite:///{tmp_path}/s.db", Instant()).trials) == 14


def test_another_suite_is_another_study(load: Callable[..., Suite], tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/s.db"
    run(load(SEARCH), storage, Instant())
    other = load(SEARCH.replace("40GB/s", "50GB/s"))
    assert not findings(other, open_study(other, storage)).trials
    assert len(findings(load(SEARCH), open_study(load(SEARCH), storage)).trials) == 12


def test_storage_that_cannot_be_used(load: Callable[..., Suite]) -> None:
    for url in ("nosuch://user:secret@host/x", "sqlite:////nowhere/at/all/s.db", "text"):
        with pytest.raises(InputError, match="cannot use the storage") as raised:
            open_study(load(GRID), url)
        assert "secret" not in str(raised.value)


def test_storage_that_fills_up_keeps_what_it_has(
    load: Callable[..., Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = load(GRID)
    study = open_study(suite, f"sqlite:///{tmp_path}/s.db")
    take = study.add_trial

    def full(trial: optuna.trial.FrozenTrial) -> None:
        if len(study.get_trials(deepcopy=False)) == 5:
            raise optuna.exceptions.StorageInternalError("database or disk is full")
        take(trial)

    monkeypatch.setattr(study, "add_trial", full)
    with pytest.raises(InputError, match=r"takes no more trials: database or disk is full\. What"):
        search(suite, study, Instant(), compute=figures_of)  # type: ignore[arg-type]
    monkeypatch.undo()
    assert len(findings(suite, study).trials) == 5


def dominated(one: Any, other: Any) -> bool:
    pairs = [(getattr(one, n), getattr(other, n)) for n in ("latency_ms", "sram_bytes")]
    return all(b <= a for a, b in pairs) and any(b < a for a, b in pairs)


def test_front_table_json_and_plot_agree(load: Callable[..., Suite], tmp_path: Path) -> None:
    found = run(load(GRID), f"sqlite:///{tmp_path}/s.db", Instant())
    timed = {trial.index: trial.timed for trial in found.trials if trial.timed}
    expected = {
        index for index, one in timed.items() if not any(dominated(one, o) for o in timed.values())
    }
    assert found.front == expected
    assert 0 < len(expected) < len(timed)
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["pareto_front"] == sorted(expected)
    rows = trials_table(document, 100).rows
    assert {row["index"] for row in rows[: len(expected)]} == expected
    assert {row["index"]: row["latency_ms"] for row in rows if row["fits"]} == {
        index: each.latency_ms for index, each in timed.items()
    }
    figure = pareto_figure(found)
    drawn = {y for trace in figure.data if trace.mode == "markers" for y in trace.y}
    assert drawn == {each.latency_ms for each in timed.values()}
    optimum = min(each.latency_ms for each in timed.values())
    assert optimum in next(trace.y for trace in figure.data if trace.mode == "lines")


def test_more_sqnr_is_better(load: Callable[..., Suite], tmp_path: Path) -> None:
    text = GRID.replace('"sram_bytes"]', '"sqnr_db"]').replace(
        'bundle = "small.npub"', 'bundle = "small.npub"\nverification = "v.json"'
    )
    found = run(load(text), f"sqlite:///{tmp_path}/s.db", Instant())
    better = tuple(replace(t, sqnr_db=50.0) if t.index == 3 else t for t in found.trials)
    worse = replace(found, trials=better)
    assert 3 in worse.front
    assert load(text).directions == ["minimize", "maximize"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema_version = 1", "schema_version = 2", "schema_version"),
        ('sampler = "grid"', 'sampler = "anneal"', "sampler is 'anneal'"),
        ('sampler = "grid"', 'sampler = "grid"\ntrials = 3', "leave trials out"),
        ('sampler = "grid"', 'sampler = "tpe"', "a count is for the sampler grid"),
        ('sampler = "grid"', 'samplr = "grid"', r"unknown key samplr \(did you mean sampler\?\)"),
        ('"sram_bytes"]', '"speed"]', "objectives"),
        ('"sram_bytes"]', '"latency_ms"]', "named twice"),
        ('"sram_bytes"]', '"sqnr_db"]', "names no verification"),
        ("sram =", "srma =", "Did you mean sram"),
        ("sram =", "sram_bytes = [1048576]\nsram =", "named twice"),
        ('"1MiB", last', '"1MHz", last', "takes no unit 'MHz'"),
        ('first = "1MiB"', 'first = "5MiB"', "no range leads"),
        ('step = "1MiB"', 'step = "-1MiB"', "no range leads"),
        ('first = "1MiB"', 'begin = "1MiB"', "parameter sram: .*unknown key begin"),
        ('first = "1MiB"', "first = -1", r"sram: target .*sram_bytes .*found -1"),
        (', step = "1MiB"', "", "a grid needs a step"),
        ("count = 3", "count = 1", "count of 2"),
        ("count = 3", 'count = "3"', "count"),
        ('["mlt", "serial"]', '["mlt", "fast"]', "unknown schedule 'fast'"),
        ('["mlt", "serial"]', "3", "expected a list of values"),
        ('["mlt", "serial"]', "[]", "one value or more"),
        ('schedule = ["mlt", "serial"]', "steps = [0]", "whole numbers from 1"),
        ('schedule = ["mlt", "serial"]', 'model = ["large"]', "no model large"),
        ("[models.small]", "[models.small]\nrecip = 'x'", "unknown key models.small.recip"),
        ("[parameters]", "[parameters", "cannot read the suite"),
    ],
)
def test_mistakes_in_suites(load: Callable[..., Suite], old: str, new: str, message: str) -> None:
    assert old in GRID
    with pytest.raises(InputError, match=f"(?s)(suite.*)?{message}"):
        load(GRID.replace(old, new))


def test_the_example_is_understood(load: Callable[..., Suite], repository_root: Path) -> None:
    suite = load((repository_root / "examples" / "explore" / "suite.toml").read_text())
    assert suite.trials == 16
    assert [parameter.name for parameter in suite.parameters][:2] == [
        "sram_bytes",
        "dma_bandwidth_bytes_per_s",
    ]


def test_models_of_suites(tmp_path: Path) -> None:
    for model, message in (
        ("", "either bundle or source"),
        ('bundle = "a.npub"\nsource = "tiny-test"', "either bundle or source"),
        ('bundle = "a.npub"\nrecipe = "r.toml"', "only a source is compiled"),
        ('bundle = "a.npub"\nsteps = 4', "steps: only a source is compiled"),
        ('source = "tiny-test"\nvariant = "fp16"', "no weight files to choose among"),
        ('source = "tiny-test"\nscheduler = "ddin"', "Did you mean DDIM?"),
        ('bundle = "absent.npub"', "absent.npub"),
        ('source = "tiny-test"\nrecipe = "absent.toml"', "cannot read the recipe"),
    ):
        (tmp_path / "s.toml").write_text(GRID.replace('bundle = "small.npub"', model))
        with pytest.raises(EdgeFusionError, match=message):
            load_suite(tmp_path / "s.toml", tmp_path)


@pytest.fixture(scope="module")
def two_processes() -> Iterator[Workers]:
    with local_workers(2) as workers:
        yield workers


def test_a_killed_worker_loses_nothing(
    load: Callable[..., Suite], tmp_path: Path, two_processes: Workers
) -> None:
    """A worker dies within its trial; every trial is told once all the same."""
    begun, slain = tmp_path / "begun", tmp_path / "slain"
    begun.mkdir()
    kill = int(signal.SIGKILL)

    def deadly(job: Job) -> tuple[float, int]:
        bandwidth = job.settings["dma_bandwidth_bytes_per_s"]
        name = f"{job.schedule}-{job.settings['sram_bytes']}-{bandwidth}"
        (begun / f"{name}-{os.getpid()}").touch()
        if len(list(begun.iterdir())) >= 4 and not slain.exists():
            try:
                slain.mkdir()
            except FileExistsError:  # the other one is dying
                pass
            else:
                os.kill(os.getpid(), kill)
        return 1e12 / bandwidth, int(job.settings["sram_bytes"])

    suite = load(GRID)
    study = open_study(suite, f"sqlite:///{tmp_path}/s.db")

    class Told(Workers):
        """Makes outcomes here: a worker need not have what tests hold."""

        def first_done(self, futures: list[Any]) -> list[tuple[Any, Any]]:
            return [
                (future, Outcome(Timed(latency, latency / 2, 1, sram, sram, {})))
                for future, (latency, sram) in Workers.first_done(self, futures)
            ]

    search(suite, study, Told(two_processes.client, 2), compute=deadly)  # type: ignore[arg-type]
    found = findings(suite, study)
    assert slain.exists(), "no worker was killed"
    assert len(list(begun.iterdir())) > 18, "the trial of the killed one was not begun again"
    assert sorted(trial.index for trial in found.trials) == list(range(18))
    assert len(set(points(found))) == 18
    states = Counter(trial.state for trial in study.get_trials(deepcopy=False))
    assert states == {optuna.trial.TrialState.COMPLETE: 18}
