"""Hugging Face directories of models of texts: the same numbers as transformers' and sentence-transformers' own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit.errors import CheckpointError, InputError
from edgevit.sources import SourceOptions, open_source
from edgevit.types import FloatModel, ImagePreprocess, TextPreprocess

Directory = Callable[..., Path]
POOLED = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}


def batch(rows: int = 3, length: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids without special ones, and a ragged mask."""
    ids = torch.randint(5, 300, (rows, length), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(length)[None] < torch.tensor([length, 4, 1])[:rows, None]).long()
    return ids, mask


def as_sentences(directory: Path, *more: tuple[str, dict[str, Any]], pooling: dict[str, Any] | None = None) -> Path:
    """Beside a model what sentence-transformers keeps: mean pooling, then `more` modules."""
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), *((kind, f"9_{kind}") for kind, _ in more)]
    entries = [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
               for i, (kind, path) in enumerate(modules)]  # fmt: skip
    (directory / "modules.json").write_text(json.dumps(entries))
    settings = {"word_embedding_dimension": 32, **(pooling or {"pooling_mode_mean_tokens": True})}
    for folder, content in (("1_Pooling", settings), *((f"9_{kind}", content) for kind, content in more)):
        (directory / folder).mkdir(exist_ok=True)
        (directory / folder / "config.json").write_text(json.dumps(content))
    return directory


@pytest.mark.parametrize("family", ["bert", "bert-tags", "roberta", "roberta-tags", "distilbert-tags"])
def test_the_task_and_the_numbers_are_the_checkpoints_own(
    family: str, huggingface: Callable[..., Any], huggingface_directory: Directory
) -> None:
    model = open_source(str(huggingface_directory(family)))
    tags = family.endswith("tags")
    assert model.task == ("token-classification" if tags else "text-classification")
    assert (model.labels, model.trained, model.depth) == (tuple("abcde"), True, 2)
    shape = ("batch", "source_length", 5) if tags else ("batch", 5)
    assert model.signature.outputs[0].shape == shape
    ids, mask = batch()
    with torch.no_grad():
        expected = huggingface(family)(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(model.module(ids, mask), expected)
    assert expected.std() > 0.01


@pytest.mark.parametrize(
    ("family", "longest", "pad"),
    [("bert", 40, 0), ("roberta", 40, 1), ("distilbert", 40, 0), ("mpnet-features", 40, 1)],
)
def test_padding_and_the_longest_text_are_told_by_the_model(
    family: str, longest: int, pad: int, huggingface_directory: Directory
) -> None:
    """RoBERTa's table has a row for each id up to that of padding which no token uses."""
    model = open_source(str(huggingface_directory(family)))
    assert isinstance(model.preprocess, TextPreprocess)
    assert (model.preprocess.max_length, model.preprocess.pad_token_id) == (longest, pad)
    model.module(torch.full((1, longest), 7), torch.ones(1, longest, dtype=torch.int64))
    with pytest.raises((IndexError, RuntimeError)):
        model.module(torch.full((1, longest + 1), 7), torch.ones(1, longest + 1, dtype=torch.int64))


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("tokenizer_config.json", {"model_max_length": 24}, 24),
        ("tokenizer_config.json", {"model_max_length": int(1e30)}, 40),
        ("sentence_bert_config.json", {"max_seq_length": 16}, 16),
    ],
)
def test_settings_beside_the_model_may_shorten_texts(
    file: str, content: dict[str, Any], expected: int, huggingface_directory: Directory
) -> None:
    directory = as_sentences(huggingface_directory("bert-features"))
    (directory / file).write_text(json.dumps(content))
    preprocess = open_source(str(directory)).preprocess
    assert isinstance(preprocess, TextPreprocess)
    assert (preprocess.max_length, preprocess.truncate) == (expected, True)


# ----------------------------------------------------------------------------------------------- features


def test_features_without_modules_are_the_mean_and_say_so(
    huggingface: Callable[..., Any], huggingface_directory: Directory
) -> None:
    model = open_source(str(huggingface_directory("bert-features")))
    assert (model.task, model.labels) == ("text-features", ())
    assert "features are mean of BertModel, because no modules.json says how tokens become one vector" in model.notes
    ids, mask = batch()
    with torch.no_grad():
        tokens = huggingface("bert-features")(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = torch.stack([row[: keep.sum()].mean(0) for row, keep in zip(tokens, mask, strict=True)])
    torch.testing.assert_close(model.module(ids, mask), expected)


@pytest.mark.parametrize("mode", ["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_every_pooling_is_that_of_sentence_transformers(mode: str) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling

    from edgevit.sources.huggingface.text_modules import pooled

    tokens = torch.randn(3, 9, 8, generator=torch.Generator().manual_seed(1))
    _, mask = batch()
    theirs = Pooling(8, mode)({"token_embeddings": tokens, "attention_mask": mask})["sentence_embedding"]
    torch.testing.assert_close(pooled(tokens, mask, mode), theirs)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}, ("cls", "max")),
        ({"pooling_mode": "lasttoken"}, ("lasttoken",)),
        ({"pooling_mode": ["mean", "max"]}, ("mean", "max")),
    ],
)
def test_old_and_new_spellings_of_pooling(
    pooling: dict[str, Any], expected: tuple[str, ...], huggingface_directory: Directory
) -> None:
    model = open_source(str(as_sentences(huggingface_directory("distilbert-features"), pooling=pooling)))
    assert model.module.pooling == expected
    assert model.signature.outputs[0].shape == ("batch", 32 * len(expected))


def test_a_dense_layer_and_length_one(huggingface_directory: Directory) -> None:
    from safetensors.torch import save_file

    dense = {"in_features": 32, "out_features": 6, "bias": True,
             "activation_function": "torch.nn.modules.activation.Tanh"}  # fmt: skip
    directory = as_sentences(huggingface_directory("bert-features"), ("Dense", dense), ("Normalize", {}))
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(6, 32, generator=generator), torch.randn(6, generator=generator)
    save_file({"linear.weight": weight, "linear.bias": bias}, directory / "9_Dense" / "model.safetensors")
    model = open_source(str(directory))
    plain = open_source(str(as_sentences(huggingface_directory("bert-features"))))
    ids, mask = batch()
    expected = torch.nn.functional.normalize(torch.tanh(plain.module(ids, mask) @ weight.T + bias))
    torch.testing.assert_close(model.module(ids, mask), expected)
    assert "dense.0.weight" in dict(model.module.named_parameters())
    assert model.digest != plain.digest


def test_a_transformer_in_a_folder_of_its_own(huggingface_directory: Directory, tmp_path: Path) -> None:
    root = tmp_path / "sentences"
    root.mkdir()
    as_sentences(root)
    huggingface_directory("bert-features").rename(root / "0_Transformer")
    modules = json.loads((root / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (root / "modules.json").write_text(json.dumps(modules))
    model = open_source(str(root))
    assert (model.name, model.task) == ("sentences", "text-features")


def test_a_classifier_gives_its_features_on_request(huggingface_directory: Directory) -> None:
    model = open_source(str(huggingface_directory("bert")), options=SourceOptions(task="text-features"))
    assert model.signature.outputs[0].shape == ("batch", 32)
    assert any("parameters that the task does not use" in note for note in model.notes)


def test_the_text_tower_of_clip(
    huggingface: Callable[..., Any], huggingface_directory: Directory, word_pieces: Path
) -> None:
    changes = {"text_config": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 320,
                               "intermediate_size": 16, "max_position_embeddings": 16, "eos_token_id": 3,
                               "bos_token_id": 2, "pad_token_id": 0, "projection_dim": 16}}  # fmt: skip
    directory = huggingface_directory("clip", **changes)
    (directory / "tokenizer.json").write_bytes(word_pieces.read_bytes())
    model = open_source(str(directory), options=SourceOptions(task="text-features"))
    assert "features are text_embeds of CLIPTextModelWithProjection" in model.notes
    ids, mask = batch()
    ids[:, 3] = 3  # where the text ends, for CLIP
    with torch.no_grad():
        theirs = huggingface("clip", **changes)
        expected = theirs.text_projection(theirs.text_model(input_ids=ids, attention_mask=mask).pooler_output)
    torch.testing.assert_close(model.module(ids, mask), expected)


# ---------------------------------------------------------------------------------------------- bad input


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def spoiled_modules(directory: Path, *kinds: str, path: str = "") -> None:
    entries = [{"idx": i, "name": str(i), "path": path, "type": f"x.{kind}"} for i, kind in enumerate(kinds)]
    (directory / "modules.json").write_text(json.dumps(entries))


SPOILED: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), CheckpointError,
                     "a tokenizer.json in .*, found none; copy the tokenizer"),
    "an old tokenizer": (lambda d: (d / "tokenizer.json").rename(d / "vocab.txt"), CheckpointError,
                         r"make it from vocab.txt: transformers.AutoTokenizer"),
    "another vocabulary": (lambda d: edit(d / "tokenizer.json", added_tokens=[{"id": 400, "content": "x"}]),
                           CheckpointError, "at most 320 tokens for .*, found 401"),
    "broken tokenizer": (lambda d: (d / "tokenizer.json").write_text("{"), Exception, "a vocabulary, found none"),
    "unknown module": (lambda d: spoiled_modules(d, "Transformer", "WordWeights"), InputError, "found WordWeights"),
    "wrong order": (lambda d: spoiled_modules(d, "Pooling", "Transformer"), InputError, "found Pooling at place 0"),
    "outside": (lambda d: spoiled_modules(d, "Transformer", path="../.."), CheckpointError, r"\.\./\.\."),
    "no modules": (lambda d: spoiled_modules(d), CheckpointError, "found an empty list"),
    "not modules": (lambda d: (d / "modules.json").write_text("{}"), CheckpointError, "expected modules at"),
    "broken modules": (lambda d: (d / "modules.json").write_text("[1]"), CheckpointError, "a list of modules"),
    "no pooling": (lambda d: (d / "1_Pooling" / "config.json").unlink(), CheckpointError, "which cannot be read"),
    "foreign pooling": (lambda d: edit(d / "1_Pooling" / "config.json", pooling_mode="median"), InputError, "median"),
    "lower case": (lambda d: (d / "sentence_bert_config.json").write_text('{"do_lower_case": true}'), InputError,
                   "do_lower_case"),
    "prompt": (lambda d: (d / "config_sentence_transformers.json").write_text('{"default_prompt_name": "query"}'),
               InputError, "found the default prompt 'query'"),
    "missing": (lambda d: edit(d / "config.json", num_hidden_layers=3), CheckpointError, "missing"),
    "remote code": (lambda d: edit(d / "config.json", auto_map={"AutoModel": "modeling_x.X"}), CheckpointError,
                    "'auto_map' .* never run"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILED)
def test_a_spoiled_directory_is_one_line(case: str, huggingface_directory: Directory) -> None:
    directory = as_sentences(huggingface_directory("bert-features"))
    spoil, kind, words = SPOILED[case]
    spoil(directory)
    with pytest.raises(kind, match=words) as caught:
        open_source(str(directory))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_labels": 1}, "found a single score"),
        ({"problem_type": "multi_label_classification"}, "found problem_type multi_label_classification"),
    ],
)
def test_scores_that_are_no_classes_are_refused(
    changes: dict[str, Any], words: str, huggingface_directory: Directory
) -> None:
    labels = {"id2label": {"0": "a"}, "label2id": {"a": 0}} if "num_labels" in changes else {}
    directory = huggingface_directory("bert", **{**changes, **labels} if labels else changes)
    with pytest.raises(InputError, match=words):
        open_source(str(directory))


def test_options_of_images_and_a_missing_padding(huggingface_directory: Directory) -> None:
    directory = huggingface_directory("bert")
    given = ImagePreprocess(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    for options in (SourceOptions(image_size=(8, 8)), SourceOptions(preprocess=given)):
        with pytest.raises(InputError, match="which reads texts; leave them out"):
            open_source(str(directory), options=options)
    edit(directory / "config.json", pad_token_id=None)
    with pytest.raises(InputError, match="expected a pad_token_id in"):
        open_source(str(directory))
    (directory / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    model: FloatModel = open_source(str(directory))
    assert isinstance(model.preprocess, TextPreprocess) and model.preprocess.pad_token_id == 0
