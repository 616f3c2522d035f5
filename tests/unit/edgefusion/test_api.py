"""The Python API as a newcomer uses it, rightly and wrongly, on a small bundle."""

from __future__ import annotations

import inspect
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgefusion
from edgefusion import (
    Budgets,
    Bundle,
    Profile,
    UsageError,
    compile_source,
    draw,
    load_target,
    open_bundle,
    run,
    simulate,
    simulate_bundle,
    tiles,
    traffic_of,
    verify,
)
from edgefusion.runtime.errors import EdgeFusionError, InputError
from edgefusion.runtime.ledger import CAUSES
from edgefusion.toolchain.profiling.frames import COLUMNS, VIEWS
from tests.network_cases import save


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer block, compiled."""
    folder = tmp_path_factory.mktemp("api")
    compile_source(save(folder, "transformer"), output=folder / "b.npub", schedules="mlt")
    return folder / "b.npub"


@pytest.fixture(scope="module")
def bundle(path: Path) -> Bundle:
    return open_bundle(path)


@pytest.fixture(scope="module")
def profile(bundle: Bundle) -> Profile:
    return simulate(bundle)


def test_a_path_does_as_well_as_a_bundle(path: Path, profile: Profile) -> None:
    for given in (path, str(path)):
        assert simulate(given).latency == profile.latency
        assert simulate_bundle(given) == profile.latency
    assert [ledger.total() for ledger, _ in traffic_of(path)] == [
        each.ledger.total() for each in profile.components
    ]


def test_settings_as_mapping_and_as_texts_are_the_same(bundle: Bundle, profile: Profile) -> None:
    made = [
        simulate(bundle, set=given)
        for given in (
            {"dma_bandwidth": "10GB/s"},
            {"dma_bandwidth_bytes_per_s": 10**10},
            {"dma_bandwidth": np.float64(1e10)},
            ["dma_bandwidth=10GB/s"],
            "dma_bandwidth=10GB/s",
        )
    ]
    assert len({each.latency.total_ps for each in made}) == 1
    assert made[0].latency.total_ps > profile.latency.total_ps


def test_targets_by_name_file_and_value(bundle: Bundle, tmp_path: Path, profile: Profile) -> None:
    target = load_target("exynos2400")
    file = tmp_path / "other.toml"
    shipped = Path(inspect.getfile(edgefusion.Target)).parent / "targets" / "exynos2400.toml"
    file.write_bytes(shipped.read_bytes())
    for given in ("exynos2400", file, str(file), target, target.machine, bundle.machine):
        assert simulate(bundle, target=given).latency == profile.latency
    slow = target.machine.with_values(clock_hz=1e8)
    assert simulate(bundle, target=slow).latency.total_ps > profile.latency.total_ps


def test_other_schedules_and_sizes_are_lowered_again(bundle: Bundle) -> None:
    assert simulate(bundle, schedule="serial").scenario.schedule == "serial"
    little = simulate(bundle, set={"sram": "128KiB"})
    assert little.components[0].program.sram_bytes <= 128 << 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"components": "modle"},
        {"components": ["model", "m"]},
        {"components": []},
        {"components": 5},
        {"components": [None]},
        {"set": {"sram_bytes": -5}},
        {"set": {"sram_bytes": 1.5}},
        {"set": {"sram": None}},
        {"set": {"sram": True}},
        {"set": {"sram": float("nan")}},
        {"set": {"sram": "4 parsecs"}},
        {"set": {"srom": 4}},
        {"set": {5: 4}},
        {"set": {"sram=4MiB": 4}},
        {"set": ["sram"]},
        {"set": None},
        {"set": 5},
        {"target": 5},
        {"target": ""},
        {"target": b"exynos2400"},
        {"schedule": "mtl"},
        {"schedule": ["mlt"]},
        {"schedule": ""},
        {"steps": 0},
        {"steps": 2.0},
        {"steps": "2"},
        {"steps": True},
        {"steps": 2},  # the bundle has no U-Net
    ],
    ids=str,
)
def test_wrong_arguments_are_told_in_a_sentence(bundle: Bundle, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as told:
        simulate(bundle, **wrong)
    assert len(str(told.value)) > 20
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("wrong", ["exynos", "nope.toml", Path("nope.toml")])
def test_targets_that_are_not_there(bundle: Bundle, wrong: str | Path) -> None:
    with pytest.raises(InputError, match="target"):
        simulate(bundle, target=wrong)


@pytest.mark.parametrize("wrong", [None, 5, "", b"x", "a\0b", [1]])
@pytest.mark.parametrize(
    "ask",
    [
        open_bundle,
        simulate,
        simulate_bundle,
        traffic_of,
        verify,
        lambda b: tiles(b, "node"),
        lambda b: run(b, "model", {}),
        lambda b: draw(b, "a fox"),
    ],
)
def test_what_is_no_bundle(ask: Callable[[Any], object], wrong: object) -> None:
    with pytest.raises(UsageError, match="the bundle is"):
        ask(wrong)


@pytest.mark.parametrize("wrong", ["/nowhere/x.npub", Path("/nowhere/x.npub")])
def test_a_bundle_that_is_not_there(wrong: str | Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        simulate(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": None},
        {"source": ""},
        {"output": None},
        {"output": 5},
        {"schedules": "mtl"},
        {"schedules": []},
        {"schedules": 5},
        {"schedules": ["mlt", "mlt"]},
        {"components": []},
        {"steps": 0},
        {"steps": "2"},
        {"target": 5},
        {"recipe": 5},
        {"work_dir": 5},
        {"random_weights": "a"},
        {"random_weights": -1},
        {"budgets": 5},
        {"shapes": "1x77"},
        {"calibration_prompts": [5]},
    ],
    ids=str,
)
def test_compiling_wrongly_leaves_nothing(tmp_path: Path, wrong: dict[str, Any]) -> None:
    arguments = {"source": "tiny-test", "output": tmp_path / "x.npub"} | wrong
    with pytest.raises(UsageError):
        compile_source(**arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [0, -1, "1", float("nan"), True])
def test_budgets_are_positive_numbers(wrong: Any) -> None:
    with pytest.raises(UsageError, match="--max-latency-ms"):
        Budgets(max_latency_ms=wrong)


def test_machines_take_no_impossible_values(bundle: Bundle) -> None:
    for values in ({"sram_bytes": -5}, {"sram_bytes": "4MiB"}, {"nope": 1}, {"clock_hz": None}):
        with pytest.raises(UsageError, match=r"exynos2400"):
            bundle.machine.with_values(**values)


def test_frames_have_the_columns_that_are_documented(profile: Profile, bundle: Bundle) -> None:
    frames = {
        "components": profile.components_frame(),
        "ops": profile.ops_frame(),
        "traffic": profile.traffic_frame(),
        "timeline": profile.timeline_frame(),
        "transfers": profile.transfers_frame("model"),
        "tiles": tiles(bundle, profile.ops[0].latency.name),
    }
    assert frames.keys() == COLUMNS.keys()
    for name, frame in frames.items():
        assert list(frame.columns) == list(COLUMNS[name]), name
        assert len(frame), name
        whole = frame[frame["rejected"] == ""] if name == "tiles" else frame
        assert not whole.drop(columns="ratio", errors="ignore").isna().any(axis=None), name
        exact = [c for c in frame if c.endswith(("_ps", "bytes", "instructions", "macs"))]
        assert exact
        assert {str(frame[c].dtype) for c in exact} <= {"int64", "Int64"}, name


def test_frames_add_up_to_the_profile(profile: Profile) -> None:
    (component,) = profile.components
    total = component.ledger.total()
    ops, transfers = profile.ops_frame(), profile.transfers_frame()
    assert ops["latency_ps"].sum() == component.latency.latency_ps
    assert ops["image_latency_ps"].sum() == profile.latency.total_ps
    assert ops["share_percent"].sum() == pytest.approx(100)
    assert ops[[f"{cause}_bytes" for cause in CAUSES[1:]]].sum().sum() == total.bytes
    assert transfers["bytes"].sum() == profile.timeline_frame()["bytes"].sum() == total.bytes
    assert transfers["dma_ps"].sum() == total.dma_ps
    for view in VIEWS:
        assert profile.traffic_frame(view)["bytes"].sum() == total.bytes
    timeline = profile.timeline_frame()
    assert timeline["end_ps"].max() == component.latency.latency_ps
    assert len(timeline) == len(component.program)
    for engine, rows in timeline.groupby("engine"):
        assert (rows["start_ps"].to_numpy()[1:] >= rows["end_ps"].to_numpy()[:-1]).all(), engine


def test_a_frame_is_a_copy(bundle: Bundle) -> None:
    profile = simulate(bundle)
    frame = profile.timeline_frame()
    frame["start_ps"] = -1
    frame.loc[0, "end_ps"] = -1
    assert profile.components[0].timeline.start_ps.min() == 0
    assert profile.components[0].timeline.end_ps.min() > 0


@pytest.mark.parametrize("by", ["ops", None, ["cause"]])
def test_traffic_by_something_else(profile: Profile, by: Any) -> None:
    with pytest.raises(UsageError, match="expected one of op, tensor, cause, direction"):
        profile.traffic_frame(by)


def test_frames_of_components_that_are_not_there(profile: Profile) -> None:
    with pytest.raises(UsageError, match="Did you mean model"):
        profile.timeline_frame("modle")


def test_tiles_are_ranked_and_the_first_is_taken(bundle: Bundle, profile: Profile) -> None:
    op = max(profile.ops, key=lambda each: each.latency.latency_ps).latency
    frame = tiles(bundle, op.name)
    assert tiles(bundle, f"model.{op.name}").equals(frame)
    assert frame["rank"].tolist() == list(range(1, len(frame) + 1))
    assert frame["taken"].tolist() == [True] + [False] * (len(frame) - 1)
    assert frame["tiling"][0] == op.tile
    assert frame["time_ps"].dropna().is_monotonic_increasing
    little = tiles(bundle, op.name, set={"sram": "16KiB"})
    rejected = little[little["rejected"] != ""]
    assert len(rejected)
    assert rejected["dma_bytes"].isna().all()


@pytest.mark.parametrize("op", ["node", "", None, 5])
def test_tiles_of_an_op_that_is_not_there(bundle: Bundle, op: Any) -> None:
    with pytest.raises(UsageError, match="op"):
        tiles(bundle, op)


def test_what_is_looked_at_says_itself_in_a_line(bundle: Bundle, profile: Profile) -> None:
    (component,) = profile.components
    things = [
        bundle, bundle.manifest, bundle.manifest.components[0], bundle.machine,
        load_target("exynos2400"), bundle.graph("model"), bundle.network("model"),
        profile, profile.scenario, profile.latency, profile.ops[0], component,
        component.latency, component.latency.ops[0], component.ledger, component.ledger.total(),
        component.timeline, component.timeline.work, component.timeline.work.dma,
        component.program, component.program.columns, component.program.ops[0],
        component.program.instruction(0),
        edgefusion.Recipe({"unet": "fp16"}, (("a", "fp16"),) * 99),
    ]  # fmt: skip
    for thing in things:
        text = repr(thing)
        assert type(thing).__name__ in text
        assert len(text) < 200, text
        assert "\n" not in text


def test_a_notebook_shows_a_table(profile: Profile) -> None:
    html = profile._repr_html_()
    assert "<table" in html
    assert f"{profile.latency.total_ms:,.3f} ms" in html
    assert len(html) < 3000


def test_running_and_verifying(bundle: Bundle) -> None:
    x = np.zeros((1, 64, 128), dtype=np.float32)
    npu, exact = run(bundle, "model", {"x": x}), run(bundle, "model", {"x": x}, reference=True)
    assert npu.keys() == exact.keys() == {"y"}
    np.testing.assert_allclose(npu["y"], exact["y"], rtol=0.01, atol=1)
    result = verify(bundle, against="bundle")
    assert result.passed
    result.check()
    assert len(result.values_frame()) == 1
    assert repr(result) == "<VerificationResult of b.npub: passed>"
    failed = verify(bundle, against="bundle", min_sqnr_db=500, layers=[])
    assert failed.passed is False
    with pytest.raises(edgefusion.NumericGateError):
        failed.check()


@pytest.mark.parametrize(
    "inputs", [None, 5, {}, {"x": [[1], [1, 2]]}, {"x": "text"}, {"y": 1}, {"x": object()}]
)
def test_inputs_that_do_not_fit(bundle: Bundle, inputs: Any) -> None:
    with pytest.raises(EdgeFusionError):
        run(bundle, "model", inputs)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompts": 0},
        {"prompts": 10**6},
        {"prompts": None},
        {"prompts": [5]},
        {"seed": -1},
        {"layers": "modle"},
        {"against": "everything"},
        {"min_sqnr_db": "40"},
        {"min_psnr_db": float("nan")},
        {"source": 5},
    ],
    ids=str,
)
def test_verifying_wrongly(bundle: Bundle, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        verify(bundle, **wrong)


def test_a_network_draws_nothing(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="an image needs"):
        draw(bundle, "a fox")
    with pytest.raises(UsageError, match="prompts"):
        draw(bundle, [5])  # type: ignore[list-item]


def test_public_names_are_there_documented_and_typed() -> None:
    assert edgefusion.__all__ == sorted(edgefusion.__all__, key=_order)
    assert set(edgefusion.__all__) <= set(dir(edgefusion))
    for name in edgefusion.__all__:
        thing = getattr(edgefusion, name)
        if name == "__version__":
            continue
        assert inspect.getdoc(thing), name
        if inspect.isfunction(thing):
            signature = inspect.signature(thing)
            assert signature.return_annotation is not inspect.Signature.empty, name
            for parameter in signature.parameters.values():
                assert parameter.annotation is not inspect.Parameter.empty, (name, parameter)
    assert (Path(edgefusion.__file__).parent / "py.typed").exists()


def test_the_example_script(
    path: Path, repository_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make types` checks the same file as a user's script."""
    example = runpy.run_path(str(repository_root / "examples" / "python" / "what_if.py"))
    assert example["main"](path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["7", "14", "30", "60"]
    assert example["main"](path.with_name("no.npub")) == InputError.exit_code
    assert "does not exist" in capsys.readouterr().err


def test_a_name_that_is_not_public() -> None:
    with pytest.raises(AttributeError, match="simulat"):
        edgefusion.simulat  # noqa: B018


def _order(name: str) -> tuple[bool, str]:
    """Classes first, as ruff sorts them."""
    return (not name[0].isupper(), name)
