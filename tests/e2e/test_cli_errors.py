"""Bad input: its exit code, one paragraph that says what to do, no traceback, nothing written."""

from __future__ import annotations

import errno
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgefusion.compiler.bundle.archive import write_members
from tests.e2e.conftest import Cli
from tests.graph_cases import parse
from tests.model_folders import pipeline_folder
from tests.network_cases import save

USAGE, INPUT, UNSUPPORTED, DOES_NOT_FIT = 2, 3, 4, 5
Refused = Callable[..., str]


@pytest.fixture
def refused(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Runs a command that must fail, and checks that it fails well; returns what it said."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def run(code: int, *arguments: str | Path) -> str:
        before = set(tmp_path.rglob("*"))
        outcome = cli(*arguments)
        assert outcome.code == code, outcome.err
        assert "Traceback" not in outcome.err
        assert "internal error" not in outcome.err
        lines = [
            line for line in outcome.err.splitlines() if not re.match(r"\[ *[\d.]+ s\] ", line)
        ]
        if code != USAGE:
            assert len(lines) == 1, outcome.err
            assert lines[0].startswith("edgefusion: error: ")
        assert set(tmp_path.rglob("*")) == before
        return " ".join(lines)

    return run


def compile_to(tmp_path: Path, source: str | Path, *options: str | Path) -> tuple[str | Path, ...]:
    return ("compile", source, "-o", tmp_path / "out.npub", "--schedule", "mlt", *options)


# Sources


@pytest.mark.parametrize("keep", [0, 100, 0.7])
def test_truncated_onnx(refused: Refused, tmp_path: Path, keep: float) -> None:
    path = save(tmp_path, "cnn")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    assert "cnn.onnx" in refused(INPUT, *compile_to(tmp_path, path))


def test_onnx_that_is_something_else(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    assert "other.onnx" in refused(INPUT, *compile_to(tmp_path, path))


def test_missing_external_data(refused: Refused, tmp_path: Path) -> None:
    path = save(tmp_path, "transformer", external=True)
    (tmp_path / "transformer.data").unlink()
    assert "transformer.data" in refused(INPUT, *compile_to(tmp_path, path))


def test_short_external_data(refused: Refused, tmp_path: Path) -> None:
    path = save(tmp_path, "transformer", external=True)
    data = tmp_path / "transformer.data"
    data.write_bytes(data.read_bytes()[:1000])
    refused(INPUT, *compile_to(tmp_path, path))


def test_checkpoint_without_a_component(refused: Refused, tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    folder.mkdir()
    index = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    assert "unet" in refused(INPUT, *compile_to(tmp_path, folder))
    (folder / "model_index.json").write_text("{")
    assert "model_index.json" in refused(INPUT, *compile_to(tmp_path, folder))


@pytest.mark.parametrize("values", [np.nan, np.inf])
def test_weights_that_are_no_numbers(refused: Refused, tmp_path: Path, values: float) -> None:
    weight = np.ones((32, 16), np.float32)
    weight[3, 4] = values
    path = tmp_path / "nan.onnx"
    onnx.save(
        parse("g (float[1,32] x) => (float[1,16] y) { y = MatMul(x, w) }", {"w": weight}), path
    )
    told = refused(INPUT, *compile_to(tmp_path, path))
    assert "'w'" in told or " w " in told


def test_op_that_nothing_can_run(refused: Refused, tmp_path: Path) -> None:
    model = parse("g (float[1,32] x) => (float[1,32] y) { y = Relu(x) }")
    model.graph.node[0].op_type, model.graph.node[0].domain = "Secret", "com.example"
    model.graph.node[0].name = "the_node"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    path = tmp_path / "secret.onnx"
    onnx.save(model, path)
    assert "Secret" in refused(UNSUPPORTED, *compile_to(tmp_path, path))


def test_dynamic_shapes_want_values(refused: Refused, cli: Cli, tmp_path: Path) -> None:
    text = "g (float[batch,32] x) => (float[batch,16] y) { y = MatMul(x, w) }"
    path = tmp_path / "dynamic.onnx"
    onnx.save(parse(text, {"w": [32, 16]}), path)
    assert "--shape x=" in refused(INPUT, *compile_to(tmp_path, path))
    refused(INPUT, *compile_to(tmp_path, path, "--shape", "x=1x33"))
    refused(INPUT, *compile_to(tmp_path, path, "--shape", "z=1x32"))
    refused(USAGE, *compile_to(tmp_path, path, "--shape", "x"))
    assert cli(*compile_to(tmp_path, path, "--shape", "x=4x32")).code == 0


# Targets and budgets


def target_file(tmp_path: Path, old: str, new: str) -> Path:
    from edgefusion.runtime import machine

    text = (Path(machine.__file__).parent / "targets" / "exynos2400.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    return path


def test_sram_too_small_for_any_tile(refused: Refused, tmp_path: Path) -> None:
    target = target_file(tmp_path, "value = 6291456", "value = 256")
    told = refused(DOES_NOT_FIT, *compile_to(tmp_path, save(tmp_path, "cnn"), "--target", target))
    assert "256 bytes" in told
    assert "too many" in told


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("sram_align_bytes", "sram_aling_bytes", "sram_aling_bytes"),
        ("{ value = 6291456", '{ value = "large"', "sram_bytes"),
        ("schema_version = 1", "schema_version = 9", "schema_version"),
        ("[clock]", "[clock", "mine.toml"),
    ],
)
def test_target_that_is_not_understood(
    refused: Refused, tmp_path: Path, old: str, new: str, told: str
) -> None:
    target = target_file(tmp_path, old, new)
    source = save(tmp_path, "cnn")
    assert told in refused(INPUT, *compile_to(tmp_path, source, "--target", target))
    assert told in refused(INPUT, "targets", target)


@pytest.mark.parametrize(
    ("option", "unit"),
    [("--max-sram-bytes", "bytes"), ("--max-dram-bytes", "bytes"), ("--max-latency-ms", "ms")],
)
def test_budget_names_the_op_the_need_and_the_excess(
    refused: Refused, cli: Cli, tmp_path: Path, option: str, unit: str
) -> None:
    source = save(tmp_path, "transformer")
    limit = "0.001" if unit == "ms" else "1000"
    told = refused(DOES_NOT_FIT, *compile_to(tmp_path, source, option, limit))
    assert option in told
    assert re.search(rf"[\d.]+ {unit} too many", told)
    assert "from " in told
    assert cli(*compile_to(tmp_path, source, option, "10000000")).code == 0
    refused(USAGE, *compile_to(tmp_path, source, option, "-1"))


def test_recipe_that_is_not_understood(refused: Refused, tmp_path: Path) -> None:
    source = save(tmp_path, "cnn")
    recipe = tmp_path / "recipe.toml"
    for text, told in (
        ("[precison]\nmodel = 'fp16'", "precison"),
        ("[precision]\nmodel = 'int4'", "int4"),
        ("[[rule]]\nprecision = 'fp16'", "match"),
        ("[precision", "recipe.toml"),
    ):
        recipe.write_text(text)
        assert told in refused(INPUT, *compile_to(tmp_path, source, "--recipe", recipe))


# Names


def test_unknown_names(refused: Refused, tmp_path: Path) -> None:
    assert "bk-sdm-tiny" in refused(INPUT, *compile_to(tmp_path, "bk-sdm-huge"))
    refused(INPUT, *compile_to(tmp_path, tmp_path / "none.onnx"))
    source = save(tmp_path, "cnn")
    assert "exynos2400" in refused(INPUT, *compile_to(tmp_path, source, "--target", "exynos"))
    assert "pipelined" in refused(USAGE, *compile_to(tmp_path, source, "--schedule", "fast"))
    assert "model" in refused(USAGE, *compile_to(tmp_path, source, "--components", "unet"))
    refused(USAGE, *compile_to(tmp_path, source, "--components", ","))
    refused(USAGE, *compile_to(tmp_path, source, "--random-weights", "1"))
    refused(USAGE, *compile_to(tmp_path, source, "--steps", "0"))
    refused(USAGE, "compile", source)
    refused(USAGE, "compil", source)
    refused(USAGE, "compile", source, "-o", tmp_path)


def test_more_steps_than_the_scheduler_has(cli: Cli, tmp_path: Path) -> None:
    outcome = cli(*compile_to(tmp_path, "tiny-test", "--steps", "51"))
    assert outcome.code == USAGE
    assert "--steps is 51; expected 1 to 50" in outcome.err
    assert not (tmp_path / "out.npub").exists()


def test_output_that_cannot_be_written(refused: Refused, tmp_path: Path) -> None:
    source = save(tmp_path, "cnn")
    (tmp_path / "file").write_text("")
    assert "file" in refused(INPUT, "compile", source, "-o", tmp_path / "file" / "out.npub")


# Bundles


COMMANDS = (("simulate",), ("traffic",), ("inspect",))


@pytest.mark.parametrize("command", COMMANDS)
def test_damaged_bundles(
    refused: Refused, bundle: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    data = bundle.read_bytes()
    damaged = tmp_path / "damaged.npub"
    for content in (
        b"",
        data[:1000],
        data[:-10],
        data[: len(data) // 2] + data[len(data) // 2 + 1 :],
    ):
        damaged.write_bytes(content)
        assert "damaged.npub" in refused(INPUT, *command, damaged)
    flipped = bytearray(data)
    flipped[data.index(b"weights.safetensors") + 5000] ^= 0x10
    damaged.write_bytes(flipped)
    assert "damaged.npub" in refused(INPUT, *command, damaged)
    assert "does not exist" in refused(INPUT, *command, tmp_path / "none.npub")
    refused(INPUT, *command, tmp_path)


def test_newer_bundle_and_missing_member(refused: Refused, bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    newer = tmp_path / "newer.npub"
    write_members(
        newer, {**members, "manifest.json": json.dumps({**manifest, "format_version": 99}).encode()}
    )
    assert "99" in refused(INPUT, "simulate", newer)
    del members["unet/program.npz"]
    short = tmp_path / "short.npub"
    write_members(short, members)
    assert "unet/program.npz" in refused(INPUT, "simulate", short)


def test_inspect_refuses_what_is_not_there(refused: Refused, bundle: Path) -> None:
    assert "--component" in refused(USAGE, "inspect", bundle, "--program")
    assert "Did you mean text_encoder?" in refused(
        USAGE, "inspect", bundle, "--component", "encoder", "--program"
    )
    assert "Did you mean vae_decoder?" in refused(USAGE, "inspect", bundle, "--component", "vae")
    for rows in ("7", "", "a:b", "-1:3", "5:4", "1:2:3", "²:", "9" * 30 + ":"):
        refused(USAGE, "inspect", bundle, "--component", "unet", "--range", rows)
    assert "which are 0 to" in refused(
        USAGE, "inspect", bundle, "--component", "unet", "--range", "99999999:"
    )
    refused(USAGE, "inspect", bundle, "--component", "unet", "--program", "--json", "-")
    refused(USAGE, "inspect", bundle, "--component", "unet", "--graph", "--memory")
    assert "nothing" in refused(
        USAGE, "inspect", bundle, "--component", "unet", "--tiles", "nothing"
    )


def test_folder_without_its_transformer(refused: Refused, cli: Cli, tmp_path: Path) -> None:
    folder = pipeline_folder(tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    more = {"unet": [None, None], "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (folder / "model_index.json").write_text(json.dumps(index | more))
    assert "FluxTransformer2DModel" in refused(INPUT, *compile_to(tmp_path, folder))
    given = (*compile_to(tmp_path, folder), "--calibration-prompts", "0")
    made = cli(*given, "--components", "vae_decoder")
    assert made.code == 0, made.err
    assert "ms for one evaluation of vae_decoder" in made.out
    assert "transformer" in made.err
    assert "one image" not in cli("simulate", tmp_path / "out.npub").out


def test_inputs_that_are_no_arrays(refused: Refused, bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    given = ("run", bundle, "--component", "unet", "--reference", "--inputs", file)
    for content in (b"", b"PK\x03\x04" + b"x" * 50, pickle.dumps({"sample": 1})):
        file.write_bytes(content)
        assert "no .npz file" in refused(INPUT, *given, "-o", tmp_path / "y.npz")
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "x.npy").rename(file)
    assert "no .npz file" in refused(INPUT, *given, "-o", tmp_path / "y.npz")
    np.savez(file, sample=np.array([{}], object))
    assert "no .npz file" in refused(INPUT, *given, "-o", tmp_path / "y.npz")


def test_nested_too_deeply(refused: Refused, tmp_path: Path) -> None:
    deep = tmp_path / "calibration.json"
    deep.write_text("[" * 200_000)
    told = refused(INPUT, *compile_to(tmp_path, save(tmp_path, "cnn"), "--calibration", deep))
    assert "nested" in told


# The disk


@pytest.mark.parametrize("where", ["zipfile._ZipWriteFile.write", "pathlib.Path.write_bytes"])
def test_full_disk(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_args: object, **_options: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    source = save(tmp_path, "cnn")
    monkeypatch.setattr(where, full)
    assert "disk is full" in refused(DOES_NOT_FIT, *compile_to(tmp_path, source))


def test_full_disk_of_a_report(
    refused: Refused, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    assert "disk is full" in refused(
        DOES_NOT_FIT, "simulate", bundle, "--json", tmp_path / "latency.json"
    )


def test_a_defect_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def broken() -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("edgefusion.cli.targets.list_targets", broken)
    outcome = cli("targets")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "EDGEFUSION_DEBUG=1" in outcome.err
