"""Tiny checkpoints in Hugging Face layout, made from configurations by transformers itself.

A pytest plugin (`tests/conftest.py` names it), so that the tests of every part can have them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PLAIN = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
WINDOWS = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [1, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
SMALL_TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 50,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CLASSES = {"id2label": {str(index): name for index, name in enumerate("abcde")}}
MOBILE = {
    "image_size": 64,
    "hidden_sizes": [16, 24, 32],
    "neck_hidden_sizes": [8, 16, 16, 24, 24, 32, 64],
    "num_attention_heads": 2,
    "patch_size": 2,
}
BIASED = {"use_relative_position_bias": True, "use_absolute_position_embeddings": False, "layer_scale_init_value": 0.1}
ENCODER = {
    "vocab_size": 320,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
"""Of texts, as BERT's configuration calls it."""
RIGHT = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": 42, "type_vocab_size": 1}
"""RoBERTa's own: padding is 1, and the first position stands behind it."""
DISTILLED = {
    "vocab_size": 320, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 40,
    "pad_token_id": 0,
}  # fmt: skip
WRITER = {
    "vocab_size": 320, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 40,
    "pad_token_id": 0, "decoder_start_token_id": 2, "eos_token_id": 3, "forced_eos_token_id": None,
}  # fmt: skip
T5 = {"vocab_size": 320, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
      "pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 3}  # fmt: skip
TOWERS = {"vision_config": {**PLAIN, "projection_dim": 16}, "text_config": SMALL_TEXT, "projection_dim": 16}

FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit": ("ViTConfig", "ViTForImageClassification", {**PLAIN, **CLASSES, "num_hidden_layers": 2}),
    "vit-features": ("ViTConfig", "ViTModel", PLAIN),
    "deit": ("DeiTConfig", "DeiTForImageClassification", {**PLAIN, **CLASSES}),
    "deit-distilled": ("DeiTConfig", "DeiTForImageClassificationWithTeacher", {**PLAIN, **CLASSES}),
    "beit": ("BeitConfig", "BeitForImageClassification", {**PLAIN, **CLASSES, **BIASED}),
    "dinov2": ("Dinov2Config", "Dinov2Model", PLAIN),
    "dinov2-classifier": ("Dinov2Config", "Dinov2ForImageClassification", {**PLAIN, **CLASSES}),
    "dinov2-registers": (
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersForImageClassification",
        {**PLAIN, **CLASSES, "num_register_tokens": 3},
    ),
    "swin": ("SwinConfig", "SwinForImageClassification", {**WINDOWS, **CLASSES}),
    "swinv2": ("Swinv2Config", "Swinv2ForImageClassification", {**WINDOWS, **CLASSES}),
    "mobilevit": ("MobileViTConfig", "MobileViTForImageClassification", {**MOBILE, **CLASSES}),
    "clip": ("CLIPConfig", "CLIPModel", TOWERS),
    "clip-classifier": ("CLIPConfig", "CLIPForImageClassification", {**TOWERS, **CLASSES}),
    "convnext": ("ConvNextConfig", "ConvNextForImageClassification",
                 {"image_size": 32, "hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, **CLASSES}),
    "bert": ("BertConfig", "BertForSequenceClassification", {**ENCODER, **CLASSES}),
    "bert-tags": ("BertConfig", "BertForTokenClassification", {**ENCODER, **CLASSES}),
    "bert-features": ("BertConfig", "BertModel", ENCODER),
    "distilbert": ("DistilBertConfig", "DistilBertForSequenceClassification", {**DISTILLED, **CLASSES}),
    "distilbert-tags": ("DistilBertConfig", "DistilBertForTokenClassification", {**DISTILLED, **CLASSES}),
    "distilbert-features": ("DistilBertConfig", "DistilBertModel", DISTILLED),
    "roberta": ("RobertaConfig", "RobertaForSequenceClassification", {**ENCODER, **RIGHT, **CLASSES}),
    "roberta-tags": ("RobertaConfig", "RobertaForTokenClassification", {**ENCODER, **RIGHT, **CLASSES}),
    "roberta-features": ("RobertaConfig", "RobertaModel", {**ENCODER, **RIGHT}),
    "mpnet-features": ("MPNetConfig", "MPNetModel", {**ENCODER, **RIGHT}),
    "electra": ("ElectraConfig", "ElectraForSequenceClassification", {**ENCODER, **CLASSES, "embedding_size": 32}),
    "albert": ("AlbertConfig", "AlbertForSequenceClassification", {**ENCODER, **CLASSES, "embedding_size": 16}),
    "deberta": ("DebertaV2Config", "DebertaV2ForSequenceClassification", {**ENCODER, **CLASSES}),
    "modernbert": ("ModernBertConfig", "ModernBertForSequenceClassification",
                   {**ENCODER, **CLASSES, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}),
    "marian": ("MarianConfig", "MarianMTModel", WRITER),
    "bart": ("BartConfig", "BartForConditionalGeneration", WRITER),
    "t5": ("T5Config", "T5ForConditionalGeneration", T5),
}  # fmt: skip
OF_TEXTS = (
    "marian",
    "bart",
    "t5",
    "bert",
    "distilbert",
    "roberta",
    "mpnet",
    "electra",
    "albert",
    "deberta",
    "modernbert",
)
"""How the names of families that read texts begin."""


@contextmanager
def silent() -> Iterator[None]:
    from edgevit.graph.quiet import quiet_torch

    with quiet_torch():
        yield


@pytest.fixture(scope="session")
def huggingface() -> Callable[..., Any]:
    """(family, **changes of its configuration) -> a transformers model whose every parameter differs, eval."""
    pytest.importorskip("transformers", reason="needs pip install 'edgevit[huggingface]'")
    import torch
    import transformers

    def make(family: str, **changes: Any) -> Any:
        config, kind, settings = FAMILIES[family]
        with silent():
            model = getattr(transformers, kind)(getattr(transformers, config)(**{**settings, **changes})).eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, value in sorted(model.state_dict().items()):
                if not value.is_floating_point() or "relative_coords" in name:
                    continue
                noise = torch.randn(value.shape, generator=generator)
                if value.ndim > 1:
                    # Large enough that the signal reaches the output through forty layers.
                    value.copy_(noise * (2 / max(value[0].numel(), 1)) ** 0.5)
                else:
                    value.copy_(
                        1 + 0.1 * noise if "var" in name or ("norm" in name and "weight" in name) else 0.1 * noise
                    )
        return model

    return make


@pytest.fixture(scope="session")
def huggingface_directory(
    huggingface: Callable[..., Any], word_pieces: Path, byte_pairs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """(family, save={}, **changes) -> a new directory with config, weights, and preprocessing or a tokenizer."""

    def make(family: str, save: dict[str, Any] | None = None, **changes: Any) -> Path:
        directory = tmp_path_factory.mktemp("hub") / family
        model = huggingface(family, **changes)
        with silent():
            model.save_pretrained(directory, **(save or {}))
        if family.startswith(OF_TEXTS):
            shutil.copy(byte_pairs if model.config.pad_token_id else word_pieces, directory / "tokenizer.json")
            return directory
        side = 64 if family == "mobilevit" else 32
        preprocess = {
            "image_processor_type": "ViTImageProcessor",
            "size": {"height": side, "width": side},
            "resample": 3,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        }
        (directory / "preprocessor_config.json").write_text(json.dumps(preprocess))
        return directory

    return make


# ------------------------------------------------------------------------------------------------- texts


@pytest.fixture(scope="session")
def sentences(repository: Path) -> Path:
    """A folder of calibration.txt and evaluation.txt: short English sentences on everything and nothing."""
    return repository / "tests" / "sentences"


@pytest.fixture(scope="session")
def word_pieces(sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `tokenizer.json` as BERT has it, at most 320 tokens: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3. Not to be changed."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=320, special_tokens=special, show_progress=False)
    tokenizer.train([str(sentences / "calibration.txt")], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return _saved(tokenizer, tmp_path_factory)


@pytest.fixture(scope="session")
def byte_pairs(sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `tokenizer.json` as RoBERTa has it, 320 tokens: <s> 0, <pad> 1, </s> 2, <unk> 3. Not to be changed."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train([str(sentences / "calibration.txt")], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return _saved(tokenizer, tmp_path_factory)


def _saved(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path
