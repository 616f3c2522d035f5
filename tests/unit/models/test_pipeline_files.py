from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefusion.models.pipeline_files import pipeline_config, pipeline_files
from edgefusion.models.source import Source, resolve_source
from edgefusion.runtime.errors import InputError


def test_files_beside_the_weights_are_found(tmp_path: Path) -> None:
    for name in ("tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer/.hidden.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text('{"beta_end": 0.5}')
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text('{"scaling_factor": 0.25}')
    (tmp_path / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderKL"]}')
    found = pipeline_files(Source("folder", "x", ("vae_decoder",), tmp_path))
    assert list(found) == [
        "pipeline/tokenizer/merges.txt",
        "pipeline/tokenizer/vocab.json",
        "pipeline/scheduler/scheduler_config.json",
        "pipeline/vae/config.json",
    ]
    config = pipeline_config({name: path.read_bytes() for name, path in found.items()})
    assert sorted(config.tokenizers["tokenizer"]) == ["merges.txt", "vocab.json"]
    assert config.scheduler == {"beta_end": 0.5}
    assert config.scaling_factor == 0.25


def test_presets_have_none_and_get_defaults() -> None:
    assert pipeline_files(resolve_source("tiny-test")) == {}
    config = pipeline_config({})
    assert (config.tokenizers, config.scheduler, config.scaling_factor) == ({}, {}, 0.18215)


@pytest.mark.parametrize("content", [b"{", b"[]", json.dumps({"scaling_factor": -1}).encode()])
def test_damage_is_told(content: bytes) -> None:
    with pytest.raises(InputError, match=r"vae/config\.json"):
        pipeline_config({"pipeline/vae/config.json": content})
