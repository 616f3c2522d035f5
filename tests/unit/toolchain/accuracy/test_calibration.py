"""Calibration: the same numbers as a direct computation, in blocks, resumed, and reused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefusion.compiler.graph.expand_functions import expand_functions
from edgefusion.compiler.network.scales import assign_scales, measured_tensors
from edgefusion.models.text_to_image import Network as Run
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.toolchain.accuracy.calibration import Workload, calibrate, graph_digest
from edgefusion.toolchain.accuracy.calibration_file import (
    METHODS,
    Calibration,
    Identity,
    load_calibration,
)
from edgefusion.toolchain.running import segments
from edgefusion.toolchain.running.attention_parts import attention_in_parts
from edgefusion.toolchain.running.segments import SegmentedModel
from tests.calibration_cases import Array, Optimised, all_values, feeds, optimised_unet


@pytest.fixture(scope="module")
def case(tiny_exports: Path) -> Optimised:
    return optimised_unet(tiny_exports)


def identity(case: Optimised, seed: int = 0) -> Identity:
    return Identity("tiny-test", "d" * 64, "unet", graph_digest(case.path), "synthetic",
                    ("a fox",), (999, 499), seed)  # fmt: skip


def drive(run: Run) -> None:
    """Two evaluations, the second on what the first made."""
    first = run(feeds(1))["noise_pred"]
    run(feeds(2) | {"sample": np.asarray(first)})


WORKLOAD = Workload(2, drive)
BUDGET = 50_000
"""No multiple of a row of scores."""


@pytest.fixture(scope="module")
def measured(case: Optimised) -> Calibration:
    return calibrate(case.path, case.network, identity(case), WORKLOAD, budget_bytes=1 << 20)


def test_ranges_equal_a_direct_computation(case: Optimised, measured: Calibration) -> None:
    model, folder = expand_functions(case.model), case.path.parent
    seen: dict[str, list[Array]] = {}

    def run(given: Mapping[str, Array]) -> Mapping[str, Array]:
        values = all_values(model, folder, dict(given))
        for name, value in {**values, **given}.items():
            seen.setdefault(name, []).append(value)
        return values

    drive(run)
    assert set(measured.tensors) == set(measured_tensors(case.network))
    for name, found in measured.tensors.items():
        values = np.concatenate([value.reshape(-1) for value in seen[name]])
        assert found.count == values.size
        scale = float(np.abs(values).max())
        assert found.low == pytest.approx(float(values.min()), abs=1e-4 * scale)
        assert found.high == pytest.approx(float(values.max()), abs=1e-4 * scale)
    assert min(assign_scales(case.network, measured.ranges()).values()) > 0.0


def test_attention_in_parts_has_the_ranges_of_the_whole(
    case: Optimised, measured: Calibration
) -> None:
    """With a budget that scores of 256 queries are far beyond."""
    parted, whole = attention_in_parts(case.model, BUDGET)
    inside = set(whole.values())
    assert {"scores_in", "scores_out"} == {name.rpartition(":")[2] for name in inside}
    assert len(whole) > 2 * len(inside)
    found = calibrate(case.path, case.network, identity(case), WORKLOAD, budget_bytes=BUDGET)
    for name, wanted in measured.tensors.items():
        assert found.tensors[name].count == wanted.count
        scale = max(abs(wanted.low), abs(wanted.high))
        assert found.tensors[name].low == pytest.approx(wanted.low, abs=1e-4 * scale)
        assert found.tensors[name].high == pytest.approx(wanted.high, abs=1e-4 * scale)
    for info in expand_functions(parted).graph.value_info:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        if "scores" in info.name.rpartition(":")[2]:
            assert 4 * prod(shape) <= BUDGET


@pytest.mark.parametrize("budget_bytes", [1, 1 << 18, 1 << 30])
def test_blocks_keep_to_the_budget_and_compute_the_whole(
    case: Optimised, budget_bytes: int
) -> None:
    model = expand_functions(case.model)
    names = measured_tensors(case.network)
    runner = SegmentedModel(model, case.path.parent, names, budget_bytes)
    bounds = [(segment.first, segment.last) for segment in runner.segments]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == len(model.graph.node)
    assert [last for _, last in bounds[:-1]] == [first for first, _ in bounds[1:]]
    assert sum(len(s.shown) for s in runner.segments) == len(set(names) - feeds().keys())
    if budget_bytes == 1:
        return  # hundreds of sessions
    shown: list[str] = []
    result = runner.run(feeds(), lambda name, _: shown.append(name))
    assert sorted(shown) == sorted(names)
    whole = all_values(model, case.path.parent, feeds())["noise_pred"]
    np.testing.assert_allclose(result["noise_pred"], whole, atol=1e-4)
    assert len(runner.segments) == 1 if budget_bytes == 1 << 30 else len(runner.segments) > 5


def test_sessions_beyond_the_weights_that_are_kept_are_made_again(
    case: Optimised, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, names = expand_functions(case.model), measured_tensors(case.network)
    weights = sum(4 * prod(tensor.dims) for tensor in model.graph.initializer)
    made: list[object] = []
    session = segments.session

    def counted(*arguments: Any, **options: Any) -> Any:
        made.append(arguments)
        return session(*arguments, **options)

    runner = SegmentedModel(model, case.path.parent, names, 1 << 18, weights // 2)
    count = len(runner.segments)
    with monkeypatch.context() as patch:
        patch.setattr(segments, "session", counted)
        first = runner.run(feeds())["noise_pred"]
        assert len(made) == count
        again = runner.run(feeds())["noise_pred"]
    assert 0 < len(made) - count < count
    np.testing.assert_array_equal(first, again)
    whole = SegmentedModel(model, case.path.parent, names, 1 << 18).run(feeds())["noise_pred"]
    np.testing.assert_array_equal(first, whole)


def test_an_interrupted_calibration_goes_on_where_it_was(
    case: Optimised, measured: Calibration, tmp_path: Path
) -> None:
    def interrupted(run: Run) -> None:
        run(feeds(1))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(case.path, case.network, identity(case), Workload(2, interrupted),
                  folder=tmp_path)  # fmt: skip
    assert [path.suffixes for path in tmp_path.iterdir()] == [[".partial", ".npz"]]
    said: list[str] = []
    found = calibrate(case.path, case.network, identity(case), WORKLOAD, folder=tmp_path,
                      progress=said.append)  # fmt: skip
    assert said
    assert all("evaluation 2 of 2" in line for line in said)
    for name, wanted in measured.tensors.items():
        assert found.tensors[name].count == wanted.count
        assert found.tensors[name].high == pytest.approx(wanted.high, rel=1e-3, abs=1e-3)
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
    said.clear()
    again = calibrate(case.path, case.network, identity(case), WORKLOAD, folder=tmp_path,
                      progress=said.append)  # fmt: skip
    assert again == found
    assert "reusing" in said[0]


def test_a_damaged_checkpoint_or_another_identity_starts_over(
    case: Optimised, tmp_path: Path
) -> None:
    seen = []

    def once(run: Run) -> None:
        seen.append(run(feeds(1)))

    for seed in (0, 1):
        calibrate(case.path, case.network, identity(case, seed), Workload(1, once),
                  folder=tmp_path)  # fmt: skip
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    files[0].unlink()
    files[0].with_suffix(".partial.npz").write_bytes(b"PK\x03\x04 nothing")
    calibrate(case.path, case.network, identity(case, 0), Workload(1, once), folder=tmp_path)
    calibrate(case.path, case.network, identity(case, 1), Workload(1, once), folder=tmp_path)
    assert len(seen) == 3


def test_values_that_are_not_finite_name_their_tensor(case: Optimised) -> None:
    def infinite(run: Run) -> None:
        run(feeds() | {"sample": np.full((1, 4, 16, 16), np.inf, np.float32)})

    with pytest.raises(InputError, match=r"evaluation 1 of 1: the tensor 'sample' holds 1024 NaN"):
        calibrate(case.path, case.network, identity(case), Workload(1, infinite))


def test_files_round_trip_and_methods_only_narrow(measured: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    measured.save(path)
    assert load_calibration(path) == measured
    widest = measured.ranges("minmax")
    for method in METHODS:
        for name, found in measured.ranges(method).items():
            assert widest[name].low <= found.low <= found.high <= widest[name].high
    with pytest.raises(UsageError, match="expected one of minmax"):
        measured.ranges("median")  # type: ignore[arg-type]  # what a user may type


def test_a_calibration_must_fit(case: Optimised, measured: Calibration, tmp_path: Path) -> None:
    measured.check(case.network, "unet", "d" * 64)
    with pytest.raises(InputError, match="component unet, not of vae_decoder"):
        measured.check(case.network, "vae_decoder", "d" * 64)
    with pytest.raises(InputError, match="other weights"):
        measured.check(case.network, "unet", "e" * 64)
    path = tmp_path / "c.json"
    measured.save(path)
    document = json.loads(path.read_text())
    document["tensors"]["strange"] = document["tensors"].pop("sample")
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="lacks 'sample'"):
        load_calibration(path).check(case.network, "unet", "d" * 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("tensors"), "tensors is missing"),
        (lambda d: d.update(format_version=9), "format version 9"),
        (lambda d: d["identity"].pop("seed"), "identity.seed is missing"),
        (
            lambda d: d["tensors"]["sample"].update(high=float("nan")),
            "sample.high is nan",
        ),
        (lambda d: d["tensors"]["sample"].update(low=1e9), "range of 'sample'"),
    ],
)
def test_damaged_files(measured: Calibration, tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "c.json"
    measured.save(path)
    document = json.loads(path.read_text())
    assert callable(change)
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=message):
        load_calibration(path)
