"""``edgefusion train``: the three distillations as a user runs them, on the smallest preset."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from edgefusion.models.source import resolve_source
from tests.e2e.conftest import Cli
from tests.training_cases import one_thread
from tests.training_data import image_folder

USAGE, INPUT = 2, 3
SHORT = {
    "run.steps": 2,
    "run.batch_size": 1,
    "run.accumulation": 2,
    "run.log_every": 1,
    "run.checkpoint_every": 1,
    "validation.every": 2,
}


@pytest.fixture(scope="module", autouse=True)
def _single_thread() -> Any:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("data") / "data", 4)


def arguments(kind: str, folder: Path, data: Path, **settings: Any) -> list[str]:
    given = {"teacher": "tiny-test", "data.path": data, **SHORT}
    given |= {key.replace("__", "."): value for key, value in settings.items()}
    flags = [part for key, value in given.items() for part in ("--set", f"{key}={value}")]
    return ["train", kind, "-o", str(folder), *flags]


def compiles(pipeline: Path) -> tuple[str, ...]:
    """The components that ``edgefusion compile`` finds; each loads."""
    source = resolve_source(str(pipeline))
    for component in source.components:
        source.load(component)  # type: ignore[arg-type]  # components of a pipeline
    return source.components


def size_of(image: Path) -> tuple[int, int]:
    with Image.open(image) as opened:
        return opened.size


def test_from_a_teacher_to_a_student_of_few_steps(cli: Cli, tmp_path: Path, data: Path) -> None:
    # 1. Block removal and distillation
    kd = tmp_path / "kd"
    done = cli(*arguments("kd", kd, data, validation__prompts="[a fox, a boat]"), "--json", "-")
    assert done.code == 0, done.err
    assert done.json["pipeline"] == str(kd / "pipeline")
    assert "step 1 of 2" in done.err
    assert compiles(kd / "pipeline") == ("text_encoder", "unet", "vae_decoder")
    student = resolve_source(str(kd / "pipeline")).load("unet")
    assert len(student.down_blocks) == 2, "the teacher has three stages"  # type: ignore[arg-type]
    assert size_of(kd / "validation" / "step-00000002.png") == (117 + 2 * 134, 6 + 9 * 134), (
        "teacher, student, average at 1, 2, 4 steps"
    )
    with (kd / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert {"task", "output", "feature", "feature/up_blocks.1"} <= rows[0].keys()

    # 2. Latent-consistency distillation of that student
    lcm = tmp_path / "lcm"
    settings = {"student": kd / "pipeline", "guidance_embedding_width": 16}
    done = cli(*arguments("lcm", lcm, data, validation__prompts="[a fox]", **settings))
    assert done.code == 0, done.err
    assert compiles(lcm / "pipeline") == ("text_encoder", "unet", "vae_decoder")
    unet = diffusers.UNet2DConditionModel.from_pretrained(lcm / "pipeline" / "unet")
    assert unet.config.time_cond_proj_dim == 16

    # 3. diffusers runs the result
    pipe = diffusers.LatentConsistencyModelPipeline.from_pretrained(
        lcm / "pipeline", tokenizer=None, safety_checker=None, feature_extractor=None
    )
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe.scheduler).__name__ == "LCMScheduler"
    context = torch.zeros(1, 77, 32)
    made = pipe(prompt_embeds=context, num_inference_steps=2, output_type="np").images
    assert made.shape == (1, 128, 128, 3)

    # 4. And so does the NPU, guidance embedding included
    bundle, given, found = (tmp_path / name for name in ("lcm.npub", "in.npz", "out.npz"))
    one = ("--calibration-prompts", "1")
    done = cli("compile", lcm / "pipeline", "-o", bundle, "--components", "unet", *one)
    assert done.code == 0, done.err
    rng = np.random.default_rng(0)
    shapes = {
        "sample": (1, 4, 16, 16),
        "encoder_hidden_states": (1, 77, 32),
        "timestep_cond": (1, 16),
    }
    inputs = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    np.savez(given, timestep=np.array([999]), **inputs)
    done = cli("run", bundle, "--component", "unet", "--inputs", given, "-o", found)
    assert done.code == 0, done.err
    assert np.isfinite(np.load(found)["noise_pred"]).all()


def test_result_is_the_average_or_the_student(cli: Cli, tmp_path: Path, data: Path) -> None:
    from safetensors.torch import load_file

    for name in ("average", "student"):
        folder = tmp_path / name
        assert cli(*arguments("kd", folder, data, run__result=name)).code == 0
        saved = load_file(folder / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
        kept = load_file(folder / "checkpoints" / "step-00000002" / f"{name}.safetensors")
        assert saved.keys() == kept.keys()
        assert all(torch.equal(saved[key], kept[key]) for key in saved)


def test_decoder(cli: Cli, tmp_path: Path, data: Path) -> None:
    done = cli(*arguments("decoder", tmp_path / "run", data, validation__images=2))
    assert done.code == 0, done.err
    pipeline = tmp_path / "run" / "pipeline"
    assert compiles(pipeline) == ("text_encoder", "unet", "vae_decoder")
    narrow = diffusers.AutoencoderKL.from_pretrained(pipeline / "vae")
    assert tuple(narrow.config.block_out_channels) == (16, 16, 32, 32)
    grid = tmp_path / "run" / "validation" / "step-00000002.png"
    assert size_of(grid) == (64 + 2 * 134, 6 + 4 * 134), "images, teacher, student, average"


def test_resume_and_what_may_change(cli: Cli, tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "run"
    assert cli(*arguments("kd", folder, data)).code == 0
    again = cli(*arguments("kd", folder, data))
    assert again.code == USAGE
    assert "holds a run already; go on with it by --resume" in again.err
    other = cli(*arguments("kd", folder, data, optimizer__learning_rate=1), "--resume")
    assert other.code == USAGE
    assert "optimizer.learning_rate was 5e-05, now 1.0" in other.err
    (folder / "checkpoints" / "step-00000002" / "state.pt").write_bytes(b"cut")
    more = cli("train", "kd", "-o", folder, "--config", folder / "config.yaml", "--resume",
               "--set", "run.steps=3")  # fmt: skip
    assert more.code == 0, more.err
    assert "passing over a damaged checkpoint: step-00000002 is cut off" in more.err
    assert "resumed at step 1" in more.err
    rows = (folder / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "1", "2", "3"]


@pytest.mark.parametrize(
    ("kind", "settings", "code", "message"),
    [
        ("kd", {"run__stepz": 3}, USAGE, "unknown key run.stepz (did you mean steps?)"),
        ("kd", {"teacher": "no-such"}, INPUT, "no-such is neither a file"),
        ("kd", {"student": "bk-sdm-tiny"}, INPUT, "the student's stages have"),
        ("kd", {"data__path": "nowhere"}, INPUT, "nowhere is no dataset"),
        ("lcm", {}, USAGE, "student is missing"),
        ("lcm", {"student": "tiny-test", "guidance_low": 20}, USAGE, "expected a range"),
    ],
)
def test_bad_input(
    cli: Cli,
    tmp_path: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    settings: dict[str, Any],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(*arguments(kind, tmp_path / "run", data, **settings))
    assert done.code == code, done.err
    assert message in done.err
    assert "Traceback" not in done.err


def test_missing_captions(cli: Cli, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "data", 2)
    (folder / "metadata.jsonl").write_text('{"file_name": "0.png", "text": ""}\n')
    done = cli(*arguments("kd", tmp_path / "run", folder))
    assert done.code == INPUT
    assert "1 of the 1 samples" in done.err


def test_images_that_break_on_the_way(cli: Cli, tmp_path: Path) -> None:
    """With a worker: its error is the user's paragraph, not a traceback from another process."""
    folder = image_folder(tmp_path / "data", 2)
    (folder / "0.png").write_bytes(b"not an image")
    done = cli(*arguments("kd", tmp_path / "run", folder, data__workers=1))
    assert done.code == INPUT
    assert (
        done.err.rstrip().splitlines()[-1].startswith(f"edgefusion: error: {folder}/0.png: unrea")
    )


def test_settings_are_listed(cli: Cli) -> None:
    printed = cli("train", "settings", "lcm").out
    assert "guidance_embedding_width" in printed
    assert "(required)" in printed
    schema = cli("train", "settings", "kd", "--json", "-").json
    assert set(schema["required"]) == {"teacher", "data"}
