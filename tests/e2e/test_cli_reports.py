"""Commands that read: simulate, traffic, inspect, targets, passes, ops, and the demo's report."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.program_parser import parse
from edgefusion.runtime.program_text import to_text
from tests.e2e.conftest import Cli

COMPONENTS = ["text_encoder", "unet", "vae_decoder"]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_demo_reports_all_schedules(demo: Path) -> None:
    document = json.loads((demo / "demo.json").read_text())
    assert document["schema_version"] == 1
    assert list(document["schedules"]) == ["serial", "mlt", "pipelined"]
    serial, tiled, grouped = (
        document["schedules"][name]["simulate"]["pipeline"]["total_ms"]
        for name in document["schedules"]
    )
    assert serial > tiled > grouped > 0
    causes = document["schedules"]["mlt"]["traffic"]["by_cause"]
    assert causes["spill"] == 0 < document["schedules"]["serial"]["traffic"]["by_cause"]["spill"]
    printed = (demo / "stdout.txt").read_text()
    for heading in (
        "Latency, schedule serial",
        "DMA traffic by cause",
        "10 costliest ops of one image",
    ):
        assert heading in printed
    assert "Traceback" not in (demo / "stderr.txt").read_text()
    assert {path.name for path in demo.iterdir()} >= {"tiny-test-serial.npub", "tiny-test-mlt.npub"}


def test_demo_executes_what_it_compiled(demo: Path) -> None:
    values = json.loads((demo / "demo.json").read_text())["values"]
    assert values["verify"]["gates"]["passed"]
    assert values["verify"]["image_psnr_db"] > 40
    step = values["step"]
    assert step["sqnr_db"] > 40
    assert step["calibration_prompts"] == 1
    assert step["calibration_timesteps"] == [999, 499]
    assert step["npu"]["seconds"] > 0 < step["onnxruntime_fp32"]["seconds"]
    printed = (demo / "stdout.txt").read_text()
    assert "tiny-test verified" in printed
    assert "from 2 evaluations only: 1 prompt" in printed


def test_demo_draws_pictures_beside_float(demo: Path) -> None:
    pictures = json.loads((demo / "demo.json").read_text())["values"]["pictures"]
    assert pictures["pictures"][0]["prompt"] == "a small red circle on blue"
    assert all(row["psnr_db"] > 30 for row in pictures["pictures"])
    with Image.open(demo / "miniature.png") as grid:
        colours = {colour for _, colour in grid.getcolors(grid.width * grid.height)}
    assert len(colours) > 1000
    assert "a small red circle on blue" in (demo / "stdout.txt").read_text()


def test_simulate_json_has_the_fixed_keys(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    ops_csv, parts_csv = tmp_path / "ops.csv", tmp_path / "components.csv"
    outcome = cli(
        *("simulate", bundle, "--json", "-", "--trace", trace),
        *("--csv", ops_csv, "--components-csv", parts_csv),
    )
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert document["schema_version"] == 1
    assert list(document["components"]) == COMPONENTS
    for entry in document["components"].values():
        assert entry.keys() >= {
            "latency_ms",
            "bound_ms",
            "tensor_busy_ms",
            "vector_busy_ms",
            "dma_busy_ms",
            "dram_read_bytes",
            "dram_write_bytes",
            "instructions",
        }
        assert entry["latency_ms"] >= entry["bound_ms"] > 0
    runs = [(c["evaluations"], c["latency_ms"]) for c in document["components"].values()]
    assert [count for count, _ in runs] == [1, 2, 1]
    total = sum(count * latency for count, latency in runs)
    assert document["pipeline"]["total_ms"] == pytest.approx(total, rel=1e-12)
    ops = rows(ops_csv.read_text())
    ranked = sorted(document["ops"], key=lambda op: op["rank"])
    assert [row["name"] for row in ops] == [op["name"] for op in ranked]
    assert [float(row["cumulative_percent"]) for row in ops][-1] == pytest.approx(100)
    parts = rows(parts_csv.read_text())
    assert float(parts[1]["latency_ms"]) == document["components"]["unet"]["latency_ms"]
    assert len(json.loads(trace.read_text())["traceEvents"]) > sum(
        entry["instructions"] for entry in document["components"].values()
    )


def test_simulate_repeats_what_the_bundle_says(cli: Cli, bundle: Path) -> None:
    first, second = (cli("simulate", bundle, "--json", "-").out for _ in range(2))
    assert first == second
    document, stored = json.loads(first), Bundle.open(bundle).latency_json()
    assert document["pipeline"] == stored["pipeline"]
    for name, entry in stored["components"].items():
        assert entry.items() <= document["components"][name].items()
    assert len(document["ops"]) == len(stored["ops"])
    for op, before in zip(document["ops"], stored["ops"], strict=True):
        assert all(op[key] == value for key, value in before.items())


def test_simulate_prints_tables(cli: Cli, bundle: Path) -> None:
    outcome = cli("simulate", bundle, "--top", "3")
    assert outcome.code == 0
    assert "one image:" in outcome.out
    assert "The 3 costliest ops" in outcome.out
    assert all(name in outcome.out for name in COMPONENTS)


@pytest.mark.parametrize("by", ["op", "tensor", "cause", "component"])
def test_traffic_views_agree(cli: Cli, bundle: Path, tmp_path: Path, by: str) -> None:
    out = tmp_path / "traffic.csv"
    outcome = cli("traffic", bundle, "--by", by, "--json", "-", "--csv", out)
    assert outcome.code == 0, outcome.err
    document = outcome.json
    written = rows(out.read_text())
    assert [int(row["image_bytes"]) for row in written] == [
        row["image_bytes"] for row in document["image"][by]
    ]
    assert sum(float(row["share_percent"]) for row in written) == pytest.approx(100)
    moved = sum(int(row["image_bytes"]) for row in written)
    assert moved == document["total_bytes"] == sum(document["by_cause"].values())
    assert set(document["by_cause"]) == {
        "weight", "input", "output", "activation", "spill", "reread", "table",
    }  # fmt: skip
    simulated = cli("simulate", bundle, "--json", "-").json["components"]
    for name, entry in document["components"].items():
        traffic = simulated[name]["dram_read_bytes"] + simulated[name]["dram_write_bytes"]
        assert entry["total_bytes"] == traffic


def test_traffic_shows_the_first_rows_and_says_how_many_more(cli: Cli, bundle: Path) -> None:
    every = len(cli("traffic", bundle, "--json", "-").json["image"]["tensor"])
    assert f"{every - 2} rows more (" in cli("traffic", bundle, "--by", "tensor", "--top", "2").out
    assert "rows more" not in cli("traffic", bundle, "--by", "tensor", "--top", "0").out


def test_inspect_shows_the_manifest(cli: Cli, bundle: Path) -> None:
    shown = cli("inspect", bundle).out
    assert "schedule    mlt, 2 steps" in shown
    assert "scheduler   LCMScheduler; the U-Net predicts epsilon" in shown
    one = cli("inspect", bundle, "--component", "unet", "--json", "-").json
    assert list(one["graphs"]) == list(one["latency"]["components"]) == ["unet"]
    document = cli("inspect", bundle, "--json", "-").json
    manifest = document["manifest"]
    assert manifest["pipeline"] == COMPONENTS
    assert manifest["components"]["unet"]["precision"] == "w8a16"
    (call,) = manifest["components"]["unet"]["host_calls"]
    assert (call["function"], call["backend"], call["input_bytes"]) == ("host0", "tvm", 8)
    assert manifest["components"]["unet"]["host_ops"][0].keys() == {
        "op", "origin", "reason", "function",
    }  # fmt: skip
    assert manifest["source"]["kind"] == "preset"
    assert manifest["target"]["parameters"]["sram_bytes"] == 6291456
    assert document["graphs"]["unet"]["Attention"] == 18


def test_inspect_program_text_is_the_program(cli: Cli, bundle: Path) -> None:
    program = Bundle.open(bundle).program("text_encoder")
    text = cli("inspect", bundle, "--component", "text_encoder", "--program").out
    assert text == to_text(program)
    assert len(parse(text)) == len(program)
    part = cli("inspect", bundle, "--component", "text_encoder", "--range", "5:7").out
    shown = [line for line in part.splitlines() if line.startswith("%")]
    assert [line.split()[0] for line in shown] == ["%5", "%6", "%7"]


def test_inspect_graph_and_memory(cli: Cli, bundle: Path) -> None:
    text = cli("inspect", bundle, "--component", "unet", "--graph").out
    assert text.startswith("graph unet opset 20\n")
    nodes = cli("inspect", bundle, "--component", "unet", "--graph", "--json", "-").json["nodes"]
    assert all(node["origin"] for node in nodes)
    memory = cli("inspect", bundle, "--component", "unet", "--memory", "--json", "-").json
    for entry in memory["ranges"]:
        assert entry["address"] + entry["nbytes"] <= memory[f"{entry['space']}_bytes"]


def test_inspect_tiles_has_the_one_that_was_taken(cli: Cli, bundle: Path) -> None:
    arguments = ("inspect", bundle, "--component", "vae_decoder", "--tiles", "node_conv2d_22")
    (record,) = cli(*arguments, "--json", "-").json["ops"]
    best = record["candidates"][0]
    assert best["tiling"] == record["taken"]
    assert best["rejected"] == ""
    assert best["sram_bytes"] <= record["sram_limit_bytes"]
    times = [c["time_us"] for c in record["candidates"] if not c["rejected"]]
    assert times == sorted(times)
    for candidate in record["candidates"]:
        figures = [candidate[key] for key in ("dma_bytes", "instructions", "time_us")]
        assert (figures == [None] * 3) == bool(candidate["rejected"])
    printed = cli(*arguments).out
    assert "rejected because" in printed
    assert f"runner-up {record['runner_up']}: {record['lost_because']}" in printed
    csv_rows = rows(cli(*arguments, "--csv", "-").out)
    assert [row["tiling"] for row in csv_rows] == [c["tiling"] for c in record["candidates"]]


def test_inspect_extracts_graphs_that_run(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    import onnxruntime

    assert cli("inspect", bundle, "--extract", tmp_path).code == 0
    session = onnxruntime.InferenceSession(tmp_path / "vae_decoder" / "graph.onnx")
    (image,) = session.run(None, {"latent": np.zeros((1, 4, 16, 16), np.float32)})
    assert image.shape == (1, 3, 128, 128)


def test_presets_count_parameters_and_operations(cli: Cli) -> None:
    document = cli("presets", "bk-sdm-tiny", "--json", "-").json
    unet = next(row for row in document["presets"] if row["component"] == "unet")
    assert unet["parameters"] == 323_384_964
    assert unet["weight_gmacs"] == pytest.approx(205.0, abs=0.05)
    assert unet["gmacs"] == pytest.approx(242.8, abs=0.05)
    outcome = cli("presets", "bk-sdm-tinny")
    assert outcome.code == 2
    assert "Did you mean bk-sdm-tiny or " in outcome.err


def test_shipped_checkpoints_are_listed(cli: Cli) -> None:
    rows = cli("presets", "miniature", "--json", "-").json["presets"]
    assert [row["component"] for row in rows] == ["text_encoder", "unet", "vae_decoder"]
    assert {row["weights"] for row in rows} == {"shipped"}
    assert rows[1]["parameters"] == 1_484_912
    assert 0 < rows[1]["weight_gmacs"] < rows[1]["gmacs"] < 0.2


def test_targets_passes_and_ops(cli: Cli) -> None:
    assert "exynos2400" in cli("targets").out
    document = cli("targets", "exynos2400", "--json", "-").json
    assert {row["status"] for row in document["parameters"]} <= {
        "published", "secondary", "inferred", "assumed", "calibrated",
    }  # fmt: skip
    assert rows(cli("targets", "exynos2400", "--csv", "-").out)[0]["parameter"] == "clock_hz"
    passes = cli("passes", "--json", "-").json["passes"]
    assert [entry["number"] for entry in passes] == list(range(1, len(passes) + 1))
    assert all(entry["description"] for entry in passes)
    ops = cli("ops", "--json", "-").json
    assert all(entry["rules"] for entry in ops["ops"])
    assert "Attention" in cli("ops", "Attention").out
    assert max(map(len, cli("ops").out.splitlines())) <= 80, "as wide as a page where it is piped"
    assert "Did you mean Attention?" in cli("ops", "Atention").err
    assert cli("ops", "--markdown", "-").out.startswith("# ")


def test_help_and_version(cli: Cli) -> None:
    for command in ("compile", "simulate", "traffic", "inspect", "export", "demo", "targets"):
        outcome = cli(command, "--help")
        assert outcome.code == 0
        assert "Example" in outcome.out
    assert cli("--version").out.startswith("edgefusion ")


def test_reports_start_fast_without_frameworks() -> None:
    program = (
        "import sys\n"
        "from edgefusion.cli.main import main\n"
        "try: main(['targets'])\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'onnx', 'diffusers', 'transformers', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    begin = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert time.perf_counter() - begin < 5  # a second on a quiet machine
