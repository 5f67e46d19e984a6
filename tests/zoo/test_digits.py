"""The published digits model: what its card says is true."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevit.errors import CheckpointError
from edgevit.sets import batches, open_set
from edgevit.sources import load_zoo
from edgevit.types import FloatModel
from edgevit.zoo import find_entry, read_card
from edgevit.zoo.catalog import CARD_FILE, CHECKPOINTS, WEIGHTS_FILE

FOLDER = CHECKPOINTS / "digits-vit"


@pytest.fixture(scope="module")
def model() -> FloatModel:
    return load_zoo("digits-vit")


def test_it_is_marked_trained_and_is_small(model: FloatModel) -> None:
    assert model.trained
    assert model.notes == ()
    assert (FOLDER / WEIGHTS_FILE).stat().st_size <= 3_000_000


def test_held_out_accuracy_is_what_the_card_says(model: FloatModel) -> None:
    card = read_card(FOLDER / CARD_FILE)
    assert model.evaluation is not None
    right = total = 0
    for batch in batches(open_set(model.evaluation), model.preprocess, 100, labels=model.labels):
        with torch.inference_mode():
            logits = model.module(torch.from_numpy(batch.inputs["pixel_values"]))
        right += int((logits.argmax(1).numpy() == np.array(batch.labels)).sum())
        total += len(batch)
    assert total == card.samples == 900
    accuracy = 100 * right / total
    assert accuracy >= 96
    # One image of 900: float32 sums in another order on another processor may move an image at the border.
    assert accuracy == pytest.approx(card.accuracy, abs=0.12)


def test_the_split_is_the_cards_rule() -> None:
    order = [f"digit-{index:04d}" for index in np.random.default_rng(0).permutation(1797)]
    entry = find_entry("digits-vit")
    assert entry.evaluation is not None and entry.calibration is not None
    held_out = [sample.name for sample in open_set(entry.evaluation).samples]
    training = [sample.name for sample in open_set(entry.calibration).samples]
    assert held_out == order[:900]
    assert set(training) <= set(order[900:])


def test_the_published_model_exports_with_a_dynamic_batch(model: FloatModel) -> None:
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(model.module, (torch.randn(2, 1, 48, 48),), dynamic_shapes=shapes).module()
    for batch in (1, 2, 3, 64):
        images = torch.randn(batch, 1, 48, 48)
        torch.testing.assert_close(program(images), model.module(images))


@pytest.mark.parametrize("damage", ["missing", "foreign", "unknown key"])
def test_a_damaged_card_is_refused(tmp_path: Path, damage: str) -> None:
    card = json.loads((FOLDER / CARD_FILE).read_text())
    if damage == "foreign":
        card = [1, 2]
    elif damage == "unknown key":
        card["colour"] = "grey"
    if damage != "missing":
        (tmp_path / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="install edgevit again"):
        read_card(tmp_path / CARD_FILE)
