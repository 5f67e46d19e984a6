"""Models of sequences for the tests: tiny ones of the zoo with random parameters, and bundles of them.

A pytest plugin (`tests/conftest.py` names it), so that the tests of every part can have them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgevit.types import (
    Build,
    BuildPart,
    Engine,
    FloatPart,
    Generation,
    Machine,
    OnnxModel,
    Signature,
    Task,
    TextPreprocess,
)

VOCABULARY = 28
GENERATION = Generation(start_token_id=3, end_token_id=1, pad_token_id=0, max_length=14)
MACHINE = Machine(
    cpu="this one", architecture="x86_64", cores=2, memory_bytes=1, instruction_sets=(), os="linux", python="3.11"
)
TEXTS = ["am Dienstag", "um drei Uhr", "a", "am Dienstag, der 12 um drei Uhr, und b", "é und a, b", "12 Uhr", "der am"]
"""Of seven lengths, in words that the tests' tokenizer has."""


@dataclass(frozen=True)
class Sequences:
    """A module of the zoo, and its graphs by part."""

    module: Any
    signature: Signature
    parts: dict[str, tuple[Any, Signature]]
    task: Task
    labels: tuple[str, ...] = ()


@pytest.fixture(scope="session")
def sequence_module() -> Callable[[str], Sequences]:
    """(`transformer`, `lstm`, `gru`, `kinds` or `tags`) -> a tiny model with parameters from a seed."""
    made: dict[str, Sequences] = {}

    def model(name: str) -> Sequences:
        if name not in made:
            made[name] = _randomized(_MAKERS[name](name), *_RANDOM[name])
        return made[name]

    return model


def _transformer(name: str) -> Sequences:
    from edgevit.zoo import transformer as zoo
    from edgevit.zoo.sequence_config import TransformerConfig

    config = TransformerConfig(
        source_vocabulary=VOCABULARY, target_vocabulary=VOCABULARY, dim=16, heads=2, encoder_layers=1,
        decoder_layers=2, hidden=24, max_length=32,
    )  # fmt: skip
    module = zoo.initialize_transformer(config)
    signatures = {"encoder": zoo.encoder_signature(config), "decoder": zoo.decoder_signature(config)}
    parts = {part: (child, signatures[part]) for part, child in module.parts().items()}
    return Sequences(module, zoo.whole_signature(config), parts, "translation")


def _recurrent(name: str) -> Sequences:
    from edgevit.zoo import recurrent as zoo
    from edgevit.zoo.sequence_config import RecurrentConfig

    config = RecurrentConfig(
        cell=name, source_vocabulary=VOCABULARY, target_vocabulary=VOCABULARY, dim=8, encoder_hidden=8,
        decoder_hidden=12, decoder_layers=2,
    )  # type: ignore[arg-type]  # fmt: skip
    module = zoo.initialize_recurrent(config)
    signatures = {"encoder": zoo.encoder_signature(config), "decoder": zoo.decoder_signature(config)}
    parts = {part: (child, signatures[part]) for part, child in module.parts().items()}
    return Sequences(module, zoo.whole_signature(config), parts, "translation")


def _kinds(name: str) -> Sequences:
    from edgevit.zoo import transformer as zoo
    from edgevit.zoo.sequence_config import ClassifierConfig

    config = ClassifierConfig(
        vocabulary=VOCABULARY, classes=3, dim=16, heads=2, encoder_layers=1, hidden=24, max_length=32
    )
    module, signature = zoo.initialize_classifier(config), zoo.classifier_signature(config)
    return Sequences(module, signature, {"": (module, signature)}, "text-classification", ("date", "time", "number"))


def _tags(name: str) -> Sequences:
    from edgevit.zoo import recurrent as zoo
    from edgevit.zoo.sequence_config import TaggerConfig

    config = TaggerConfig(cell="gru", vocabulary=VOCABULARY, tags=4, dim=8, hidden=8)
    module, signature = zoo.initialize_tagger(config), zoo.tagger_signature(config)
    labels = ("weekday", "number", "unit", "other")
    return Sequences(module, signature, {"": (module, signature)}, "token-classification", labels)


_MAKERS = {"transformer": _transformer, "lstm": _recurrent, "gru": _recurrent, "kinds": _kinds, "tags": _tags}
_RANDOM = {"transformer": (15, 0.3), "lstm": (21, 1.5), "gru": (40, 1.0), "kinds": (0, 0.5), "tags": (0, 0.5)}
"""Seed and spread of the parameters, searched for so that what is written varies and ends after some tokens."""


def _randomized(model: Sequences, seed: int, spread: float) -> Sequences:
    import torch

    generator = torch.Generator().manual_seed(seed)
    model.module.requires_grad_(False)
    for _, parameter in sorted(model.module.named_parameters()):
        parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)
    return model


@pytest.fixture(scope="session")
def export_part() -> Callable[[Any, Signature, Path], OnnxModel]:
    """(module, signature, path) -> its ONNX."""

    def export(module: Any, signature: Signature, path: Path) -> OnnxModel:
        from edgevit.graph.capture import capture
        from edgevit.graph.lower import lower

        path.parent.mkdir(parents=True, exist_ok=True)
        part = FloatPart(name=path.parent.name, module=module, signature=signature)
        return lower(capture(part), part, path)

    return export


@pytest.fixture(scope="session")
def text_bundle(
    sequence_module: Callable[[str], Sequences],
    export_part: Callable[..., OnnxModel],
    tokenizer_file: Path,
    once: Callable[..., Path],
) -> Callable[[str], Path]:
    """(name of a `sequence_module`) -> its bundle: float32 of OpenVINO (the best) and ONNX Runtime. Take copies."""
    from edgevit.bundle import Manifest, describe_directory, describe_file, write_manifest
    from edgevit.targets import get_target
    from edgevit.targets.base import BuildSource

    def make(name: str, root: Path) -> None:
        model = sequence_module(name)
        builds = []
        graphs = {part: export_part(*model.parts[part], root / "onnx" / part / "model.onnx") for part in model.parts}
        for target, latency in (("openvino", 1.0), ("onnxruntime", 2.0)):
            for part, graph in graphs.items():
                (directory := root / f"{target}-float32" / part).mkdir(parents=True)
                get_target(target).build(BuildSource(float_model=None, onnx=graph), "float32", {}, directory)
            parts = tuple(BuildPart(name=part, signature=graph.signature) for part, graph in graphs.items() if part)
            builds.append(
                Build(
                    target=target, precision="float32", engine=Engine(name=target, version="1"), machine=MACHINE,
                    files=describe_directory(root, root / f"{target}-float32"), parts=parts, verdict="passed",
                    signature=model.signature, latency_ms=latency,
                )
            )  # fmt: skip
        shutil.rmtree(root / "onnx")
        shutil.copy(tokenizer_file, root / "tokenizer.json")
        vocabulary = describe_file(root, root / "tokenizer.json")
        manifest = Manifest(
            edgevit="0.1.0", model=f"tiny-{name}", source_digest="0" * 64, signature=model.signature, task=model.task,
            preprocess=TextPreprocess(max_length=24, tokenizer_sha256=vocabulary.sha256), labels=model.labels,
            trained=False, toolchain={}, machine=MACHINE, builds=tuple(builds), files=(vocabulary,),
            generation=GENERATION if model.task == "translation" else None,
        )  # fmt: skip
        write_manifest(root, manifest)

    return lambda name: once(f"text-{name}", lambda root: make(name, root))
