"""Small models of sequences and their parts, lowered once per session; nothing of them is to be changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.types import FloatModel, FloatPart, Generation, OnnxModel, Signature, TextPreprocess

if TYPE_CHECKING:
    from edgevit.types import Arrays

LAYERS, HEADS, WIDTH, VOCABULARY = 2, 4, 32, 30
LONGEST = {"source_length": 24, "target_length": 24}


@dataclass
class Sequences:
    folder: Path
    done: dict[str, tuple[FloatPart, OnnxModel]] = field(default_factory=dict)

    def part(self, name: str) -> FloatPart:
        """`transformer.encoder`, `transformer.decoder`, `lstm.encoder`, …, `tags-rnn`, `kinds`.

        `short.decoder` and `short-kinds` have one layer, for engines that are slow to build for.
        """
        return self._made(name)[0]

    def onnx(self, name: str) -> OnnxModel:
        return self._made(name)[1]

    def run(self, name: str, inputs: Arrays) -> Arrays:
        from edgevit.graph.execute import Executor

        with Executor(self.onnx(name).path) as executor:
            return executor.run(inputs)

    def _made(self, name: str) -> tuple[FloatPart, OnnxModel]:
        from edgevit.graph.capture import capture
        from edgevit.graph.lower import lower

        if name not in self.done:
            part = make_part(name)
            self.done[name] = part, lower(capture(part), part, self.folder / f"{name}.onnx")
        return self.done[name]


def make_part(name: str) -> FloatPart:
    module, signature, depth = _made_of(name)
    return FloatPart(name=name, module=module.requires_grad_(False), signature=signature, depth=depth)


def _made_of(name: str) -> tuple[Any, Signature, int | None]:
    from edgevit.zoo import recurrent, transformer
    from edgevit.zoo.sequence_config import ClassifierConfig, RecurrentConfig, TaggerConfig, TransformerConfig

    kind, _, part = name.partition(".")
    vocabularies = {"source_vocabulary": 40, "target_vocabulary": VOCABULARY}
    layers = 1 if kind.startswith("short") else LAYERS
    if kind in ("transformer", "short"):
        config = TransformerConfig(
            **vocabularies, dim=WIDTH, heads=HEADS, encoder_layers=layers, decoder_layers=layers, hidden=64
        )
        module = different(transformer.initialize_transformer(config))
        depths = {"encoder": layers, "decoder": 2 * layers, "": 3 * layers}
        signatures = transformer.encoder_signature, transformer.decoder_signature, transformer.whole_signature
        return _one_of(part, module), _signature(part, config, signatures), depths[part]
    if kind in ("lstm", "gru"):
        recurrence = RecurrentConfig(
            **vocabularies, cell=kind, dim=16, encoder_hidden=20, decoder_hidden=24, decoder_layers=2
        )
        signatures = recurrent.encoder_signature, recurrent.decoder_signature, recurrent.whole_signature
        whole = different(recurrent.initialize_recurrent(recurrence))
        return _one_of(part, whole), _signature(part, recurrence, signatures), None
    if kind in ("kinds", "short-kinds"):
        classifier = ClassifierConfig(
            vocabulary=40, classes=3, dim=WIDTH, heads=HEADS, encoder_layers=layers, hidden=64
        )
        classes = transformer.classifier_signature(classifier)
        return different(transformer.initialize_classifier(classifier)), classes, layers
    tagger = TaggerConfig(cell=kind.removeprefix("tags-"), vocabulary=40, tags=6, dim=16, hidden=24, layers=2)
    return different(recurrent.initialize_tagger(tagger)), recurrent.tagger_signature(tagger), None


def _one_of(part: str, module: Any) -> Any:
    return module.parts()[part].eval() if part else module


def _signature(part: str, config: Any, signatures: tuple[Any, Any, Any]) -> Signature:
    return signatures[("encoder", "decoder", "").index(part)](config)


def different(module: Any) -> Any:
    """Every parameter with values of its own: an untrained model has zero biases and equal norms."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module.eval()


def text_model(sequences: Sequences, name: str) -> FloatModel:
    """A part as a model of its own, as a target that starts from torch is handed it."""
    part = sequences.part(name)
    writes = Generation(start_token_id=2, end_token_id=3, pad_token_id=0, max_length=LONGEST["target_length"])
    return FloatModel(
        name=name,
        module=part.module,
        signature=part.signature,
        task="text-classification" if name.endswith("kinds") else "translation",
        preprocess=TextPreprocess(max_length=LONGEST["source_length"]),
        labels=("number", "question", "other") if name.endswith("kinds") else (),
        trained=False,
        depth=part.depth,
        generation=None if name.endswith("kinds") else writes,
    )


def texts(rows: int, length: int, pad: int = 0, seed: int = 0) -> Arrays:
    """A ragged batch: `length` columns of ids and mask, then `pad` more of padding; the last row is full."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, length + 1, rows)
    lengths[-1] = length
    mask = (np.arange(length + pad)[None, :] < lengths[:, None]).astype(np.int64)
    ids = random.integers(1, 40, (rows, length)) * mask[:, :length]
    return {"input_ids": np.pad(ids, ((0, 0), (0, pad))), "attention_mask": mask}


def begun(encoded: Arrays, mask: Any, signature: Signature) -> Arrays:
    """A decoder's inputs before its first token, but `input_ids`: what the encoder gave, and a past of length 0."""
    given: Arrays = {"encoder_attention_mask": mask}
    for spec in signature.inputs:
        present = spec.name.replace("past_key_values", "present")
        if present in encoded:
            given[spec.name] = encoded[present]
        elif spec.name.endswith(("decoder.key", "decoder.value")):
            given[spec.name] = np.zeros((len(mask), HEADS, 0, WIDTH // HEADS), np.float32)
    return {name: array for name, array in given.items() if name in {spec.name for spec in signature.inputs}}


def continued(given: Arrays, outputs: Arrays) -> Arrays:
    """The next step's inputs: the newest of everything that is carried."""
    newest = {name.replace("present", "past_key_values"): array for name, array in outputs.items()}
    return {name: newest.get(name, array) for name, array in given.items()}


def decoder_batches(sequences: Sequences, model: str) -> list[Arrays]:
    """What a decoder is calibrated with: a prefix at once, then steps, of a ragged batch of sources."""
    source = texts(4, 7)
    name = f"{model}.decoder"
    encoded = sequences.run(f"{model}.encoder", source)
    given = begun(encoded, source["attention_mask"], sequences.part(name).signature)
    batches = []
    for tokens in (5, 1, 1, 1):
        ids = np.random.default_rng(len(batches)).integers(1, VOCABULARY, (4, tokens))
        batches.append({"input_ids": ids, **given})
        given = continued(given, sequences.run(name, batches[-1]))
    return batches
