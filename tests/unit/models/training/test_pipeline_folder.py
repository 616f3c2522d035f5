"""The result keeps what it does not replace, appears whole, and loads."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from diffusers import DDIMScheduler, LCMScheduler

from edgefusion.models.source import Source, resolve_source
from edgefusion.models.training.pipeline_folder import scheduler_config, write_pipeline
from edgefusion.runtime.errors import DoesNotFitError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A pipeline folder with a tokenizer, and a noise schedule of its own."""
    folder = tmp_path_factory.mktemp("base") / "pipeline"
    write_pipeline(resolve_source("tiny-test"), folder, {}, consistency=False)
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "CLIPTokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index))
    DDIMScheduler(beta_end=0.013, prediction_type="v_prediction").save_pretrained(
        folder / "scheduler"
    )
    return resolve_source(str(folder))


def test_the_rest_is_kept(base: Source, tmp_path: Path) -> None:
    out = tmp_path / "out"
    unet: Any = base.load("unet")
    write_pipeline(base, out, {"unet": unet}, consistency=False)
    assert (out / "tokenizer" / "vocab.json").read_text() == "{}"
    index = json.loads((out / "model_index.json").read_text())
    assert index["tokenizer"] == ["transformers", "CLIPTokenizer"]
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert base.path is not None
    for part in ("text_encoder/model.safetensors", "scheduler/scheduler_config.json"):
        assert (out / part).read_bytes() == (base.path / part).read_bytes()
    reloaded = resolve_source(str(out)).load("unet")
    for key, value in reloaded.state_dict().items():
        assert value.equal(unet.state_dict()[key]), key


def test_noise_schedule_survives_the_change_of_scheduler(base: Source, tmp_path: Path) -> None:
    write_pipeline(base, tmp_path / "out", {"unet": base.load("unet")}, consistency=True)
    scheduler = LCMScheduler.from_pretrained(tmp_path / "out" / "scheduler")
    assert scheduler.config.beta_end == 0.013
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.original_inference_steps == 50
    assert scheduler_config(base)["beta_end"] == 0.013


def test_full_disk_leaves_what_was_there(base: Source, tmp_path: Path) -> None:
    class Failing:
        def save_pretrained(self, folder: Path) -> None:
            raise RuntimeError("write failed") from OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out"
    write_pipeline(base, out, {}, consistency=False)
    before = sorted(path.relative_to(out) for path in out.rglob("*"))
    with pytest.raises(DoesNotFitError, match="the disk is full"):
        write_pipeline(base, out, {"unet": Failing()}, consistency=False)
    assert sorted(path.relative_to(out) for path in out.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
