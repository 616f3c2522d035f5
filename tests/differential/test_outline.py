"""Weights read one at a time are those that the libraries load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgefusion.models.export import export_component
from edgefusion.models.random_weights import RandomWeights
from edgefusion.models.source import resolve_source
from tests.model_folders import (
    pipeline_folder,
    pixart_pipeline_folder,
    sd3_pipeline_folder,
    with_tiny_autoencoder,
    xl_pipeline_folder,
)

MAKERS: dict[str, Callable[[Path], Path]] = {
    "stable-diffusion": pipeline_folder,
    "tiny-autoencoder": lambda place: with_tiny_autoencoder(pipeline_folder(place)),
    "stable-diffusion-xl": xl_pipeline_folder,
    "pixart": pixart_pipeline_folder,
    "stable-diffusion-3": sd3_pipeline_folder,
}


@pytest.mark.parametrize("family", MAKERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_weights_are_those_of_the_library(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    source = resolve_source(str(MAKERS[family](tmp_path)))
    assert source.path is not None
    for component in source.components:
        part = source.part(component)
        place = source.path / part.folder
        library: Any = part.kind.library_class()
        if dtype != torch.float32:
            library.from_pretrained(place, torch_dtype=dtype).save_pretrained(place)
        wanted = library.from_pretrained(place, torch_dtype=torch.float32).eval()
        found = source.load_whole(component)
        weights = found.state_dict()
        assert weights.keys() == wanted.state_dict().keys()
        for name, value in wanted.state_dict().items():
            torch.testing.assert_close(weights[name], value, rtol=0, atol=0, msg=name)
        buffers = dict(found.named_buffers())
        for name, value in wanted.named_buffers():
            torch.testing.assert_close(buffers[name], value, rtol=0, atol=0, msg=name)
        ids = [id(p) for p in found.parameters()]
        assert len(ids) == len(list(wanted.parameters())), "those of two names are one"


def test_an_export_reads_each_large_weight_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so has one at a time in memory: nothing but the file keeps it."""
    read: Counter[str] = Counter()
    draw = RandomWeights.__call__

    def counted(self: RandomWeights, name: str) -> torch.Tensor:
        values = draw(self, name)
        read.update([name] if values.numel() > 4096 else [])
        return values

    monkeypatch.setattr(RandomWeights, "__call__", counted)
    source = resolve_source("tiny-test")
    path = export_component(source, "unet", tmp_path)
    assert path.is_file()
    assert len(read) > 40
    assert set(read.values()) == {1}
