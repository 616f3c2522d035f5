"""Raw pairs with faults, and what the stages make of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgefusion.models.data.crops import square_crops
from edgefusion.models.data.dataset import open_dataset
from edgefusion.models.miniature.classifier import (
    AttributeNet,
    Labeller,
    agreement,
    seen,
    trained_classifier,
)
from edgefusion.models.miniature.codec import PixelCodec
from edgefusion.models.miniature.encoded import EncodedPairs
from edgefusion.models.miniature.pairs import Pairs, as_pixels, token_ids
from edgefusion.models.miniature.raw_data import Draughtsman, Faults, Prompts, raw_pair
from edgefusion.models.miniature.shapes import MIDDLE, SIDE_PX, Scene, caption, sample, told
from edgefusion.models.miniature.stages import (
    CLEANED,
    CURATED,
    RAW,
    RECAPTIONED,
    SYNTHETIC,
    make_datasets,
)
from edgefusion.models.miniature.text_encoder import untrained
from edgefusion.models.training.draws import Draws
from edgefusion.models.training.encoders import Encoders
from edgefusion.runtime.errors import InputError
from tests.data_cases import tree

RAW_PAIRS, PROMPTS = 150, 60


@pytest.fixture(scope="module")
def labeller() -> AttributeNet:
    return trained_classifier(seed=1, width=8, steps=150)


@pytest.fixture(scope="module")
def datasets(labeller: AttributeNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datasets")
    make_datasets(folder, 2, RAW_PAIRS, PROMPTS, Labeller(labeller))
    return folder


def test_classifiers_see_what_was_drawn(labeller: AttributeNet) -> None:
    drawn = [sample(77, i) for i in range(200)]
    images = torch.from_numpy(np.stack([image for _, image in drawn])).permute(0, 3, 1, 2)
    captions = [caption(scene) for scene, _ in drawn]
    right = agreement(labeller, images.float() / 127.5 - 1, captions)
    assert right.mean() > 0.75  # 0.31 by chance
    wrong = agreement(labeller, images.float() / 127.5 - 1, captions[::-1])
    assert wrong.mean() < right.mean() - 0.3


def test_raw_pairs_have_each_fault() -> None:
    pairs = [raw_pair(4, i, Faults()) for i in range(400)]
    sizes = {image.size for image, _ in pairs}
    assert sizes == {(32, 32), (48, 32), (10, 10), (16, 10)}
    texts = [text for _, text in pairs]
    assert 5 <= texts.count("") <= 40
    pictures = [image.tobytes() for image, _ in pairs]
    assert 30 <= len(pictures) - len({*pictures}) <= 90
    clean = Faults(0, 0, 0, 0, 0, 0)
    assert {raw_pair(4, i, clean)[0].size for i in range(20)} == {(SIDE_PX, SIDE_PX)}


def test_stages_drop_and_caption(datasets: Path) -> None:
    count = {p.name: len(list(open_dataset(p))) for p in datasets.iterdir()}
    assert count[RAW] == RAW_PAIRS
    assert 0.4 * RAW_PAIRS < count[CLEANED] < 0.8 * RAW_PAIRS
    assert count[RECAPTIONED] == count[CLEANED]
    assert 0 < count[CURATED] < count[SYNTHETIC] <= PROMPTS
    tells = [told(s.caption) for s in open_dataset(datasets / RECAPTIONED)]
    assert all(len(words) == 5 - ("position" not in words) for words in tells)


def test_a_caption_leaves_out_no_position_but_the_middle(
    datasets: Path, labeller: AttributeNet
) -> None:
    pairs = Pairs.of([datasets / RECAPTIONED])
    places = [Scene.of_labels(row).position for row in seen(labeller, pairs.pixels)]
    unsaid = ["position" not in told(text) for text in pairs.captions]
    assert {place for place, left_out in zip(places, unsaid, strict=True) if left_out} == {MIDDLE}
    middle = [out for place, out in zip(places, unsaid, strict=True) if place == MIDDLE]
    assert 0.2 < np.mean(middle) < 0.8


def test_prompts_without_position_are_drawn_in_the_middle() -> None:
    images = Draughtsman(wrong=0.0)(["a large red square on black"] * 20, range(20))
    for image in images:
        columns = np.flatnonzero((np.asarray(image)[..., 0] > 120).any(axis=0))
        assert columns.mean() == pytest.approx((SIDE_PX - 1) / 2, abs=1.5)


def test_stages_repeated_change_nothing(datasets: Path, labeller: AttributeNet) -> None:
    before = tree(datasets)
    make_datasets(datasets, 2, RAW_PAIRS, PROMPTS, Labeller(labeller))
    assert tree(datasets) == before


def test_scores_prefer_the_crop_with_the_shape(labeller: AttributeNet) -> None:
    off_centre = Faults(0, 0, 1, 0, 0, 0)
    chosen = []
    for index in range(60):
        image, text = raw_pair(6, index, off_centre)
        crops = square_crops(image, SIDE_PX)
        found = Labeller(labeller).scores(list(crops.values()), text)
        shape_left = image.getpixel((24, 0)) == image.getpixel((0, 0))
        chosen.append(list(crops)[int(np.argmax(found))] == ("start" if shape_left else "end"))
    assert np.mean(chosen) > 0.6  # one in three by chance


def test_synthetic_pictures_mostly_show_their_prompts(labeller: AttributeNet) -> None:
    prompts = Prompts(3)(0, 64)
    assert Prompts(3)(10, 4) == prompts[10:14]
    exact = Draughtsman(wrong=0.0)(prompts, range(64))
    wrong = Draughtsman(wrong=1.0)(prompts, range(64))
    as_told, otherwise = (_agreement(labeller, images, prompts) for images in (exact, wrong))
    assert as_told > otherwise + 0.05


def _agreement(
    labeller: AttributeNet, images: Sequence[Image.Image], prompts: Sequence[str]
) -> float:
    return float(agreement(labeller, as_pixels(images), prompts).mean())


def test_pairs_leave_out_what_has_no_caption(datasets: Path) -> None:
    raw = [s for s in open_dataset(datasets / RAW) if s.caption]
    pairs = Pairs.of([datasets / RAW, datasets / SYNTHETIC])
    assert len(pairs) == len(raw) + len(list(open_dataset(datasets / SYNTHETIC)))
    assert pairs[0]["pixels"].shape == (3, SIDE_PX, SIDE_PX)
    assert pairs[0]["input_ids"].shape == (77,)


def test_no_pairs_at_all(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text("")
    with pytest.raises(InputError, match="no captioned image"):
        Pairs.of([tmp_path])


def test_encoded_pairs_are_what_encoders_give(datasets: Path) -> None:
    encoders = Encoders(untrained(0).eval(), PixelCodec(), token_ids("")[None])
    pairs = Pairs.of([datasets / SYNTHETIC, datasets / CURATED])
    encoded = EncodedPairs.of(pairs, encoders)
    assert len(encoded) == len(pairs)
    assert len(encoded.contexts) < len(pairs)  # curated captions come twice
    for index in (0, 7, len(pairs) - 1):
        batch = torch.utils.data.default_collate([pairs[index]])
        expected = {"latents": encoders.latents(batch, Draws(0, 0))}
        expected["context"] = encoders.context(batch)
        for name, value in encoded[index].items():
            torch.testing.assert_close(value, expected[name][0], rtol=1e-5, atol=1e-5)
