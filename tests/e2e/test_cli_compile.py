"""compile and export: presets, plain ONNX networks, determinism, interruption, reuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgefusion import compile_source, open_bundle, simulate_bundle, traffic_of
from edgefusion.cli.interruption import heed
from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.passes.optimise import optimise
from edgefusion.runtime.isa import EngineKind
from edgefusion.runtime.target import target_path
from tests.e2e.conftest import Cli
from tests.network_cases import save


def test_two_compilations_give_the_same_bytes(demo: Path, bundle: Path, tmp_path: Path) -> None:
    """Another process, another hash seed, another folder; the exports are those of the demo."""
    again = tmp_path / "again.npub"
    command = [sys.executable, "-m", "edgefusion", "compile", "tiny-test", "-o", str(again)]
    result = subprocess.run(
        [
            *[*command, "--schedule", "mlt", "--calibration-prompts", "1"],
            *["--no-transposing", "--work-dir", str(demo / "work"), "--json", "-"],
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONHASHSEED": "9"},
    )
    assert result.returncode == 0, result.stderr
    assert again.read_bytes() == bundle.read_bytes()
    assert "reusing" in result.stderr
    assert json.loads(result.stdout)["bundle_bytes"] == bundle.stat().st_size


def test_compile_json_and_options(cli: Cli, demo: Path, tmp_path: Path) -> None:
    outcome = cli(
        "compile", "tiny-test", "-o", tmp_path / "deep" / "t.npub", "--components", "vae_decoder",
        "--work-dir", demo / "work", "--dump-ir", tmp_path / "ir", "--time-passes", "--json", "-",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert document["schedule"] == "pipelined"
    assert [entry["component"] for entry in document["components"]] == ["vae_decoder"]
    assert document["pipeline"]["total_ms"] >= document["pipeline"]["bound_ms"] > 0
    assert {entry["stage"] for entry in document["stages"]} == {
        "export", "passes", "source", "lowering pipelined", "weights", "dry run",
        "bundle pipelined",
    }  # fmt: skip
    (check,) = document["source_checks"]
    assert (check["component"], check["compared"]) == ("vae_decoder", True)
    assert check["imported_db"] is None, "no error"
    dumps = sorted(path.name for path in (tmp_path / "ir" / "vae_decoder").iterdir())
    assert dumps[0] == "00-source.txt"
    assert len(dumps) == len(document["passes"]) + 1
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["t.npub"]


def test_steps_are_the_evaluations_of_the_unet(demo: Path, tmp_path: Path) -> None:
    result = compile_source(
        "tiny-test",
        output=tmp_path / "t.npub",
        schedules=("mlt",),
        components=("unet",),
        steps=4,
        work_dir=demo / "work",
    )
    bundle = open_bundle(result.bundles["mlt"])
    latency = simulate_bundle(bundle)
    ((component, evaluations),) = latency.components
    assert evaluations == 4
    assert latency.total_ps == 4 * component.latency_ps
    ((ledger, count),) = traffic_of(bundle)
    assert count == 4
    assert ledger.total().bytes == component.dram_read_bytes + component.dram_write_bytes


def test_engines_that_a_schedule_leaves_idle_are_named(demo: Path, tmp_path: Path) -> None:
    one, two = "tensor_engines = { value = 1", "tensor_engines = { value = 2"
    target = tmp_path / "two.toml"
    target.write_text(target_path("exynos2400").read_text(encoding="utf-8").replace(one, two))
    said: list[str] = []
    result = compile_source(
        "tiny-test",
        output={name: tmp_path / f"{name}.npub" for name in ("mlt", "pipelined")},
        target=str(target),
        schedules=("mlt", "pipelined"),
        components=("text_encoder",),
        calibration_prompts=0,
        work_dir=demo / "work",
        progress=said.append,
    )
    (line,) = (line for line in said if "stay idle" in line)
    assert line.startswith("schedule mlt runs one engine at a time: 1 of 2 tensor engines of")
    assert open_bundle(result.bundles["pipelined"]).machine.engines[EngineKind.TENSOR] == 2


def test_recipe_changes_the_precision(demo: Path, cli: Cli, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[precision]\ntext_encoder = 'w8a16'\n")
    out = tmp_path / "t.npub"
    outcome = cli(
        "compile", "tiny-test", "-o", out, "--components", "text_encoder", "--recipe", recipe,
        "--work-dir", demo / "work", "--schedule", "serial",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert Bundle.open(out).manifest.component("text_encoder").precision == "w8a16"
    dtypes = {str(values.dtype) for values in Bundle.open(out).weights("text_encoder").values()}
    assert "int8" in dtypes


@pytest.mark.parametrize("schedule", ["serial", "mlt", "pipelined"])
@pytest.mark.parametrize(("network", "kind"), [("cnn", "conv"), ("transformer", "attention")])
def test_plain_onnx_networks(
    cli: Cli, tmp_path: Path, network: str, kind: str, schedule: str
) -> None:
    out = tmp_path / "out.npub"
    source = save(tmp_path, network, external=network == "transformer")
    outcome = cli("compile", source, "-o", out, "--schedule", schedule, "--json", "-")
    assert outcome.code == 0, outcome.err
    assert not outcome.json["host_ops"]
    document = cli("simulate", out, "--json", "-").json
    assert list(document["components"]) == ["model"]
    assert kind in {op["kind"] for op in document["ops"]}
    assert document["components"]["model"]["latency_ms"] > 0
    assert cli("traffic", out, "--json", "-").json["total_bytes"] > 0
    assert cli("inspect", out, "--memory").code == 0


def test_export_writes_each_component(cli: Cli, tmp_path: Path) -> None:
    source = save(tmp_path, "cnn")
    outcome = cli("export", source, "-o", tmp_path / "onnx", "--json", "-")
    assert outcome.code == 0, outcome.err
    (entry,) = outcome.json["components"]
    assert Path(entry["graph"]).stat().st_size == entry["graph_bytes"]
    assert cli("compile", entry["graph"], "-o", tmp_path / "x.npub").code == 0


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_that_a_library_drops_is_heeded(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, code: int
) -> None:
    raised = []

    def dropping(*arguments: object) -> object:
        try:
            signal.raise_signal(sent)
        except SystemExit as end:
            raised.append(end.code)
        return optimise(*arguments)

    monkeypatch.setattr("edgefusion.toolchain.compiling.compilation.optimise", dropping)
    outcome = cli("compile", save(tmp_path, "cnn"), "-o", tmp_path / "out.npub")
    assert raised == [code]
    assert outcome.code == code
    assert "writing weights" not in outcome.err
    assert "error" not in outcome.err
    assert not (tmp_path / "out.npub").exists()
    heed()  # whatever this process does next was not asked to end


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interruption_leaves_nothing(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    out, temporary = tmp_path / "out", tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "edgefusion", "compile", "tiny-test", "-o", str(out / "t.npub")],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
        # A shell's background jobs ignore SIGINT, and hand that down to their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 60
    while not list(temporary.glob(".edgefusion-*")):  # the workspace: the compilation has begun
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert not out.exists() or list(out.iterdir()) == []
    left = [path.name for path in temporary.iterdir()]  # ONNX Runtime and torch keep some there
    assert not [name for name in left if "edgefusion" in name]
