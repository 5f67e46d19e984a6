"""Models of texts of the zoo: what is loaded, what travels with them, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from edgevit.errors import CheckpointError, InputError
from edgevit.preprocess import vocabulary_size
from edgevit.sources import SourceOptions
from edgevit.sources.sequences import load_sequence
from edgevit.types import Generation, ImagePreprocess, TextPreprocess
from edgevit.zoo import (
    ClassifierConfig,
    RecurrentConfig,
    SequenceConfig,
    SequenceEntry,
    TaggerConfig,
    TransformerConfig,
)

GENERATION = Generation(start_token_id=3, end_token_id=1, pad_token_id=0, max_length=8, tokenizer="target.json")


@pytest.fixture
def entry(tokenizer_file: Path) -> SequenceEntry:
    rows = vocabulary_size(tokenizer_file)
    config = TransformerConfig(
        source_vocabulary=rows, target_vocabulary=rows, dim=16, heads=2, encoder_layers=1, decoder_layers=2, hidden=16
    )
    return SequenceEntry(
        name="small",
        task="translation",
        config=config,
        preprocess=TextPreprocess(max_length=16),
        files={"tokenizer.json": tokenizer_file, "target.json": tokenizer_file},
        generation=GENERATION,
    )


def with_config(entry: SequenceEntry, config: SequenceConfig, **changes: object) -> SequenceEntry:
    return msgspec.structs.replace(entry, config=config, generation=None, **changes)


def test_an_encoder_decoder_has_two_parts_and_its_tokenizers(entry: SequenceEntry, tokenizer_file: Path) -> None:
    model = load_sequence(entry, None, SourceOptions())
    assert not model.trained
    assert [part.name for part in model.parts] == ["encoder", "decoder"]
    assert [part.depth for part in model.parts] == [1, 4]
    assert model.files == {"tokenizer.json": tokenizer_file, "target.json": tokenizer_file}
    assert model.generation == GENERATION
    names = [{name for name, _ in part.module.named_parameters()} for part in model.parts]
    assert names[0] | names[1] == {name for name, _ in model.module.named_parameters()}
    assert [spec.name for spec in model.signature.inputs] == ["input_ids", "attention_mask", "decoder_input_ids"]


def test_other_architectures(entry: SequenceEntry) -> None:
    rows = 40
    classifier = ClassifierConfig(
        vocabulary=rows, classes=3, dim=16, heads=2, encoder_layers=2, hidden=16, max_length=32
    )
    model = load_sequence(with_config(entry, classifier, labels=("a", "b", "c")), None, SourceOptions())
    assert (model.parts, model.depth, model.labels) == ((), 2, ("a", "b", "c"))
    tagger = TaggerConfig(cell="gru", vocabulary=rows, tags=4, dim=8, hidden=8)
    model = load_sequence(with_config(entry, tagger, labels=tuple("abcd")), None, SourceOptions())
    assert (model.parts, model.depth) == ((), None)
    recurrent = RecurrentConfig(
        cell="lstm", source_vocabulary=rows, target_vocabulary=rows, dim=8, encoder_hidden=8, decoder_hidden=8
    )
    model = load_sequence(msgspec.structs.replace(entry, config=recurrent), None, SourceOptions())
    assert [part.name for part in model.parts] == ["encoder", "decoder"]


def test_the_digest_is_of_everything_that_changes_a_result(entry: SequenceEntry) -> None:
    replace = msgspec.structs.replace
    digests = {
        load_sequence(one, None, SourceOptions()).digest
        for one in (
            entry,
            replace(entry, generation=replace(GENERATION, max_length=9)),
            replace(entry, preprocess=TextPreprocess(max_length=17)),
            replace(entry, config=replace(entry.config, hidden=32)),
        )
    }
    assert len(digests) == 4


def test_a_checkpoint_of_another_shape_is_refused(entry: SequenceEntry, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = load_sequence(entry, None, SourceOptions()).module.state_dict()
    save_file({name: value.clone() for name, value in state.items()}, tmp_path / "own.safetensors")
    model = load_sequence(entry, tmp_path / "own.safetensors", SourceOptions())
    assert model.trained
    other = msgspec.structs.replace(entry, config=msgspec.structs.replace(entry.config, hidden=32))
    with pytest.raises(CheckpointError, match="fc1"):
        load_sequence(other, tmp_path / "own.safetensors", SourceOptions())


@pytest.mark.parametrize("side", ["source_vocabulary", "target_vocabulary"])
def test_a_vocabulary_that_does_not_fit_the_checkpoint(entry: SequenceEntry, side: str) -> None:
    small = msgspec.structs.replace(entry, config=msgspec.structs.replace(entry.config, **{side: 9}))
    with pytest.raises(CheckpointError, match=r"a vocabulary of at most 9 tokens for small, found \d+ in .*; use the"):
        load_sequence(small, None, SourceOptions())


def test_options_of_images_are_refused(entry: SequenceEntry) -> None:
    images = ImagePreprocess(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
    for options in (SourceOptions(preprocess=images), SourceOptions(image_size=(8, 8))):
        with pytest.raises(InputError, match="expected no image preprocessing and no image size for small"):
            load_sequence(entry, None, options)
    with pytest.raises(InputError, match="expected 0 labels, one per class of the model, found 1"):
        load_sequence(entry, None, SourceOptions(labels=("a",)))


def test_a_damaged_vocabulary_is_no_traceback(entry: SequenceEntry, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {}}))
    broken = msgspec.structs.replace(entry, files={**entry.files, "tokenizer.json": tmp_path / "tokenizer.json"})
    with pytest.raises(InputError, match="expected a file of the package tokenizers with a vocabulary"):
        load_sequence(broken, None, SourceOptions())
