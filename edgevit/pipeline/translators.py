"""Encoder-decoders that can be asked for translations: the float model, its graphs, and opened builds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.graph.execute import Executor
from edgevit.runtime.loop import Decoding
from edgevit.runtime.parts import DECODER, ENCODER, LOGITS, MASK, TARGET_TOKENS, TOKENS, PartsSession, feedback
from edgevit.runtime.search import generate
from edgevit.types import Engine, Execution, Signature

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from edgevit.types import Arrays, FloatModel, Generation, OnnxModel

UNTRAINED_LENGTH = 16
"""Tokens that an untrained model is let write: it finds no end, and only closeness is measured on what it writes."""


def settings_of(model: FloatModel) -> Generation:
    """How the model writes when it is calibrated and compared."""
    settings = untrained_settings(model.generation, trained=model.trained)
    assert settings is not None
    return settings


def untrained_settings(settings: Generation | None, *, trained: bool) -> Generation | None:
    """The settings; of an untrained model a few tokens, the likeliest each time."""
    if settings is None or trained:
        return settings
    return msgspec.structs.replace(settings, max_length=min(UNTRAINED_LENGTH, settings.max_length), beams=1)


class SessionTranslator:
    """An opened encoder and decoder under fixed settings."""

    def __init__(self, session: PartsSession, settings: Generation) -> None:
        self._session = session
        self._settings = settings

    def generate(self, inputs: Arrays) -> list[tuple[int, ...]]:
        ids, mask = inputs[TOKENS], inputs[MASK]
        with Decoding(self._session, ids, mask) as steps:
            return [row.ids for row in generate(steps, len(ids), self._settings)]

    def run(self, inputs: Arrays) -> Arrays:
        return self._session.run(inputs)


class TorchTranslator:
    """The float32 reference: PyTorch's own generation, without a cache."""

    def __init__(self, model: FloatModel, settings: Generation) -> None:
        self._model = model
        self._settings = settings

    def generate(self, inputs: Arrays) -> list[tuple[int, ...]]:
        import torch

        from edgevit.zoo.generate import generate as write

        sources = [torch.from_numpy(inputs[name]) for name in (TOKENS, MASK)]
        return [tuple(ids) for ids in write(self._model.module, sources[0], sources[1], self._settings)]

    def run(self, inputs: Arrays) -> Arrays:
        import torch

        with torch.inference_mode():
            logits = self._model.module(*(torch.from_numpy(inputs[name]) for name in (TOKENS, MASK, TARGET_TOKENS)))
        return {self._model.signature.outputs[0].name: logits.numpy()}


class GraphSession:
    """One ONNX graph as an engine's session, for the stages before any engine."""

    def __init__(self, graph: OnnxModel, *, exact: bool = False) -> None:
        self.signature: Signature = graph.signature
        self.engine = Engine(name="onnx", version="")
        self._executor = Executor(graph.path, exact=exact)

    def run(self, inputs: Arrays) -> Arrays:
        return self._executor.run(inputs)

    def execution(self) -> Execution:
        return Execution(precision="float32", provider="CPUExecutionProvider", instruction_set="")

    def close(self) -> None:
        self._executor.close()


class Graphs:
    """The ONNX graphs of both parts, open at the same time; a context manager."""

    def __init__(self, graphs: Mapping[str, OnnxModel], *, exact: bool = False) -> None:
        signature = whole_signature(graphs[ENCODER].signature, graphs[DECODER].signature)
        parts = {part: GraphSession(graphs[part], exact=exact) for part in (ENCODER, DECODER)}
        self.session = PartsSession(signature, parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()


def whole_signature(encoder: Signature, decoder: Signature) -> Signature:
    """Of both parts as one, under teacher forcing."""
    targets = [msgspec.structs.replace(spec, name=TARGET_TOKENS) for spec in decoder.inputs if spec.name == TOKENS]
    logits = tuple(spec for spec in decoder.outputs if spec.name == LOGITS)
    return Signature(inputs=(*encoder.inputs, *targets), outputs=logits)


def decoder_calls(session: PartsSession, inputs: Arrays, settings: Generation) -> Iterator[Arrays]:
    """Every call of the decoder that writes what the model writes for one batch of sources, as its inputs.

    First one call with as many tokens as the shortest text has (a prefill), then a call for each further token of the
    longer ones (steps). Texts that have ended take no part: each written token is in exactly one call, and no padding
    in any, so that ranges are measured on what will be computed. Sources must be of one length for the same reason.
    """
    ids = SessionTranslator(session, settings).generate(inputs)
    texts = [np.array([settings.start_token_id, *row[:-1]], dtype=np.int64) for row in ids]
    lengths = np.array([len(text) for text in texts])
    given = session.encode(inputs[TOKENS], inputs[MASK])
    fed = feedback(session.decoder.signature)
    first = int(lengths.min())
    rows = np.arange(len(texts))
    call: Arrays = {TOKENS: np.stack([text[:first] for text in texts]), **given}
    for place in range(first, int(lengths.max()) + 1):
        yield call
        if place == lengths.max():
            return
        outputs = session.decoder.run(call)
        going = lengths[rows] > place
        rows = rows[going]
        carried = {name: outputs[output] for output, name in fed.items()}
        call = {name: values[going] for name, values in {**given, **carried}.items()}
        given = {name: values[going] for name, values in given.items()}
        call[TOKENS] = np.stack([texts[row][place : place + 1] for row in rows])
