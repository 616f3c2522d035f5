"""``bench run``, ``check`` and ``update`` on the example that comes with the project."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from junitparser import Error, Failure, JUnitXml

from edgefusion.cli.main import main
from edgefusion.toolchain.compiling import code_digest as code_digests
from edgefusion.toolchain.suites import bundles as bundles_of_suites
from tests.e2e.conftest import Cli, Outcome

MLT, PIPELINED = "block/mlt", "block/pipelined"
CASES = [
    f"block/{schedule}{what_if}"
    for schedule in ("mlt", "pipelined")
    for what_if in ("", "/half-bandwidth", "/small-sram")
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, repository_root: Path) -> Path:
    """A folder with the bundles of the example. Do not change it."""
    folder = tmp_path_factory.mktemp("cache")
    suite = repository_root / "examples" / "ci" / "suite.toml"
    with pytest.raises(SystemExit) as ended:
        main(["bench", "check", str(suite), "--work-dir", str(folder)])
    assert not ended.value.code
    return folder


@pytest.fixture
def example(
    tmp_path: Path, repository_root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of the example's suite whose bundles are there already."""
    shutil.copytree(repository_root / "examples" / "ci", tmp_path / "ci")
    bundle = cache / next(path.name for path in cache.glob("block-mlt-*.npub"))
    suite = tmp_path / "ci" / "suite.toml"
    suite.write_text(suite.read_text().replace('source = "block.onnx"', f'bundle = "{bundle}"'))
    monkeypatch.setenv("EDGEFUSION_CACHE", str(tmp_path / "no-cache"))
    return suite


def baseline(suite: Path, case: str) -> Path:
    return suite.parent / "baselines" / "suite" / f"{case}.toml"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def line_of(path: Path, start: str) -> str:
    return next(line for line in path.read_text().splitlines() if line.startswith(start))


def statuses(outcome: Outcome) -> dict[str, str]:
    return {case["case"]: case["status"] for case in outcome.json["cases"]}


def test_the_example_is_as_its_baselines_from_source_and_from_a_bundle(
    cli: Cli, example: Path, cache: Path, repository_root: Path
) -> None:
    assert len(list(cache.glob("*.npub"))) == 2
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    source = repository_root / "examples" / "ci" / "suite.toml"
    outcome = cli("bench", "check", source, "--work-dir", cache, "--json", "-")
    assert outcome.code == 0
    assert statuses(outcome) == dict.fromkeys(CASES, "OK")
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before
    # One bundle of mlt gives the figures of pipelined, too: it is lowered again
    outcome = cli("bench", "check", example, "--json", "-")
    assert statuses(outcome) == dict.fromkeys(CASES, "OK")


def test_a_change_is_explained_and_all_formats_agree(
    cli: Cli, example: Path, tmp_path: Path
) -> None:
    file = baseline(example, MLT)
    edit(file, line_of(file, "latency_ps ="), "latency_ps = 70000000")
    row = line_of(file, '"node_conv2 conv"') if "node_conv2" in file.read_text() else ""
    row = row or next(line for line in file.read_text().splitlines() if " conv" in line)
    edit(file, row, row.replace("[", "[1"))
    edit(file, line_of(file, "busy_ps.dma"), "busy_ps.dma = 60000000")
    shutil.move(baseline(example, PIPELINED), baseline(example, "block/gone"))
    paths = [tmp_path / name for name in ("o.json", "o.csv", "o.md", "o.xml")]
    outcome = cli(
        *("bench", "check", example, "--json", paths[0], "--csv", paths[1]),
        *("--markdown", paths[2], "--junit", paths[3]),
    )
    assert outcome.code == 7
    expected = dict.fromkeys(CASES, "OK")
    expected |= {MLT: "CHANGED", PIPELINED: "NEW", "block/gone": "MISSING"}
    document = json.loads(paths[0].read_text())
    assert {case["case"]: case["status"] for case in document["cases"]} == expected
    assert document["counts"]["CHANGED"] == document["counts"]["NEW"] == 1
    rows = {row["case"]: row for row in csv.DictReader(paths[1].read_text().splitlines())}
    assert {case: row["status"] for case, row in rows.items()} == expected
    changed = document["cases"][0]
    assert float(rows[MLT]["latency_ms"]) == changed["latency_ms"]
    assert changed["baseline_latency_ms"] == 0.07
    moved = {change["metric"] for change in changed["changes"]}
    assert {"pipeline.latency_ps", "model.busy_ps.dma"} <= moved
    explanation = "\n".join(changed["explanation"])
    assert "dma busy" in explanation
    assert " conv: " in explanation
    markdown = paths[2].read_text()
    for text in (outcome.out, markdown):
        assert all(line in text for line in changed["explanation"])
        assert all(case in text for case in expected)
    tests = {test.name: test for suite in JUnitXml.fromfile(str(paths[3])) for test in suite}
    failing = {name for name, test in tests.items() if test.result}
    assert failing == {MLT, PIPELINED, "block/gone"}
    assert all(isinstance(tests[name].result[0], Failure) for name in failing)
    assert tests[MLT].result[0].text == explanation
    assert "3 of 7 cases" in outcome.err
    assert "bench update" in outcome.err
    again = cli("bench", "check", example, "--junit", paths[3], "--markdown", paths[2])
    assert again.code == 7, "files of an earlier check are replaced"


def test_new_cases_may_be_allowed(cli: Cli, example: Path) -> None:
    baseline(example, PIPELINED).unlink()
    assert cli("bench", "check", example).code == 7
    assert cli("bench", "check", example, "--allow-new").code == 0
    assert cli("bench", "check", example, "--case", "*/mlt*").code == 0


def test_update_writes_what_moved_alone_and_keeps_reasons(cli: Cli, example: Path) -> None:
    file, folder = baseline(example, MLT), example.parent / "baselines"
    right = file.read_text()
    given = [line for line in right.splitlines() if line.startswith("reason")]
    edit(file, line_of(file, "sram_bytes = 6"), "sram_bytes = 6291456 # by hand")
    edit(file, line_of(file, "instructions ="), "instructions = 5")
    baseline(example, PIPELINED).rename(baseline(example, "block/gone"))
    before = {path: path.read_bytes() for path in folder.rglob("*.toml")}
    outcome = cli("bench", "update", example, "--reason", "  two\n lines ", "--json", "-")
    assert outcome.code == 0
    assert statuses(outcome)[MLT] == "CHANGED"
    written = {p for p in folder.rglob("*.toml") if before.get(p) != p.read_bytes()}
    assert written == {file, baseline(example, PIPELINED)}
    reasons = [line for line in file.read_text().splitlines() if line.startswith("reason")]
    assert reasons == ['reason = "two lines"', *given]
    assert file.read_text().split("[timed]")[1] == right.split("[timed]")[1]
    assert cli("bench", "check", example).code == 7, "one baseline has no case"
    outcome = cli("bench", "update", example, "--reason", "x", "--prune")
    assert outcome.code == 0
    assert not baseline(example, "block/gone").exists()
    assert cli("bench", "check", example).code == 0


def test_run_shows_the_table_and_looks_at_no_baseline(cli: Cli, example: Path) -> None:
    shutil.rmtree(example.parent / "baselines")
    outcome = cli("bench", "run", example, "--case", "*half*", "--json", "-")
    assert outcome.code == 0
    assert statuses(outcome) == dict.fromkeys((CASES[1], CASES[4]), "TIMED")
    assert not (example.parent / "baselines").exists()
    metrics = outcome.json["cases"][0]["metrics"]
    assert metrics["pipeline.latency_ps"] / 1e9 == outcome.json["cases"][0]["latency_ms"]


Spoil = Callable[[Path], None]


def _text(old: str, new: str) -> Spoil:
    return lambda suite: edit(suite, old, new)


def _wrong_kind(suite: Path) -> None:
    suite.write_text('schema_version = 1\n[[entry]]\nname = "a"\nbundle = "README.md"\n')


def _no_bundle(suite: Path) -> None:
    suite.write_text('schema_version = 1\n[[entry]]\nname = "a"\nbundle = "none.npub"\n')


@pytest.mark.parametrize(
    ("code", "spoil", "said"),
    [
        (3, _no_bundle, "there is no bundle"),
        (3, _wrong_kind, "is no bundle"),
        (3, _text("schedules", "schedule"), "did you mean schedules?"),
        (3, lambda suite: suite.unlink(), "there is no suite"),
        (2, _text("dma_bandwidth=0.5x", "dma_bandwith=0.5x"), "Did you mean"),
        (5, _text("64KiB", "64B"), "small-sram"),
        (3, lambda suite: edit(baseline(suite, MLT), "schema_version = 1", "schema_version = 2"),
         "schema_version 2"),
        (3, lambda suite: baseline(suite, MLT).write_text("nonsense = ["), "cannot read"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_and_nothing_is_written(
    cli: Cli, example: Path, code: int, spoil: Spoil, said: str
) -> None:
    spoil(example)
    folder = example.parent / "baselines"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for command in (("check",), ("update", "--reason", "x")):
        outcome = cli("bench", command[0], example, *command[1:])
        assert outcome.code == code, outcome.err
        assert said in outcome.err
        assert "Traceback" not in outcome.err
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_one_case_that_fails_hides_no_other(cli: Cli, example: Path, tmp_path: Path) -> None:
    edit(example, "64KiB", "64B")
    outcome = cli("bench", "check", example, "--junit", tmp_path / "o.xml")
    assert outcome.code == 5
    assert "4 OK, 2 ERROR" in outcome.out
    tests = [test for suite in JUnitXml.fromfile(str(tmp_path / "o.xml")) for test in suite]
    assert sum(isinstance(test.result[0], Error) for test in tests if test.result) == 2


def test_names_that_are_not_there(cli: Cli, example: Path) -> None:
    outcome = cli("bench", "check", example, "--case", "block/mtl")
    assert (outcome.code, "Did you mean block/mlt" in outcome.err) == (2, True)
    outcome = cli("bench", "check", example, "--bundle", "blok=x.npub")
    assert (outcome.code, "it has block" in outcome.err) == (2, True)
    outcome = cli("bench", "check", example, "--bundle", "block")
    assert (outcome.code, "expected ENTRY=FILE" in outcome.err) == (2, True)
    outcome = cli("bench", "update", example, "--reason", " ")
    assert (outcome.code, "--reason is empty" in outcome.err) == (2, True)
    assert cli("bench", "update", example).code == 2


def test_an_interrupted_update_leaves_the_old_baselines(
    cli: Cli, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for case in (MLT, PIPELINED):
        file = baseline(example, case)
        edit(file, line_of(file, "instructions ="), "instructions = 5")
    files = list(example.parent.rglob("*.toml"))
    before = {path: path.read_bytes() for path in files}
    written = []

    def interrupted(case: str, made: object) -> str:
        written.append(case)
        if len(written) == 2:
            raise KeyboardInterrupt
        return "half ="

    monkeypatch.setattr("edgefusion.toolchain.suites.baseline.baseline_text", interrupted)
    assert cli("bench", "update", example, "--reason", "x").code
    assert written == [MLT, PIPELINED]
    assert {path: path.read_bytes() for path in example.parent.rglob("*.toml")} == before


def test_a_stale_bundle_is_compiled_again_and_removed(
    cli: Cli, cache: Path, repository_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(repository_root / "examples" / "ci", tmp_path / "ci")
    suite, folder = tmp_path / "ci" / "suite.toml", tmp_path / "cache"
    folder.mkdir()
    compiled = []

    def compile_source(_source: str, *, output: dict[str, Path], **_: object) -> None:
        compiled.append(sorted(output))
        for schedule, path in output.items():
            shutil.copy(next(cache.glob(f"block-{schedule}-*.npub")), path)

    monkeypatch.setattr(
        "edgefusion.toolchain.compiling.compile_source.compile_source", compile_source
    )

    def check() -> list[list[str]]:
        compiled.clear()
        assert cli("bench", "check", suite, "--work-dir", folder).code == 0
        assert len(list(folder.iterdir())) == 2
        return list(compiled)

    both = [["mlt", "pipelined"]]
    assert check() == both
    assert check() == []
    first = {path.name for path in folder.iterdir()}
    monkeypatch.setattr(bundles_of_suites, "code_digest", lambda: "another compiler")
    assert check() == both
    assert not first & {path.name for path in folder.iterdir()}
    model = suite.parent / "block.onnx"
    content = model.read_bytes()
    assert content.count(b"conv1.weight")
    model.write_bytes(content.replace(b"example", b"exemple"))
    assert check() == both
    damaged = next(folder.glob("block-mlt-*.npub"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert check() == [["mlt"]]


def test_what_compilation_follows_from_is_digested() -> None:
    names = [name for name, _ in code_digests._code()]
    assert {"compiler/ops/attention.py", "runtime/cost.py", "runtime/targets/exynos2400.toml",
            "models/export.py", "passes/pipeline.py"} <= set(names)  # fmt: skip
