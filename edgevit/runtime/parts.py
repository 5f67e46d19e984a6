"""A build of two graphs, encoder and decoder, as one session, and how the tensors of one reach the other.

The names say it (they are those of Hugging Face's exporters): the decoder's input `past_key_values.X` is the newest
`present.X` - the decoder's own of the step before, or else the encoder's, or else an empty array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.errors import BundleError
from edgevit.types import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from edgevit.targets.base import EngineSession
    from edgevit.types import Arrays, Build, BuildPart, Engine, ExecutedLayer, Signature

ENCODER = "encoder"
DECODER = "decoder"
TOKENS = "input_ids"
MASK = "attention_mask"
TARGET_TOKENS = "decoder_input_ids"
SOURCE_MASK = "encoder_attention_mask"
LOGITS = "logits"
PAST = "past_key_values."
PRESENT = "present."


class PartsSession:
    """Encoder and decoder as one `EngineSession`: sources and target tokens in, logits of every target token out."""

    def __init__(self, signature: Signature, parts: Mapping[str, EngineSession]) -> None:
        self.signature = signature
        self.encoder = parts[ENCODER]
        self.decoder = parts[DECODER]
        self.engine: Engine = self.decoder.engine

    def run(self, inputs: Arrays) -> Arrays:
        """Teacher forcing; thread-safe as the parts are."""
        encoded = self.encode(inputs[TOKENS], inputs[MASK])
        return {LOGITS: self.decoder.run({TOKENS: inputs[TARGET_TOKENS], **encoded})[LOGITS]}

    def encode(self, input_ids: NDArray[Any], attention_mask: NDArray[Any]) -> Arrays:
        """Sources, int64 (batch, source_length), as everything the decoder reads beside its tokens."""
        encoded = self.encoder.run({TOKENS: input_ids, MASK: attention_mask})
        return decoder_inputs(self.decoder.signature, {**encoded, SOURCE_MASK: attention_mask}, len(input_ids))

    def execution(self) -> Execution:
        return merged_executions({ENCODER: self.encoder.execution(), DECODER: self.decoder.execution()})

    def close(self) -> None:
        try:
            self.encoder.close()
        finally:
            self.decoder.close()


def open_parts(build: Build, open_part: Callable[[BuildPart, Build], EngineSession]) -> PartsSession:
    """Opens the parts of a build, each as a build of its own; none stays open if one cannot be.

    Raises BundleError unless they are an encoder and a decoder.
    """
    names = sorted(part.name for part in build.parts)
    if names != sorted((ENCODER, DECODER)):
        raise BundleError(
            f"expected the parts '{ENCODER}' and '{DECODER}' in the build {build.name}, found {names}; "
            "a newer edgevit may know them: pip install --upgrade edgevit"
        )
    opened: dict[str, EngineSession] = {}
    try:
        for part in build.parts:
            below = tuple(file for file in build.files if file.path.startswith(f"{build.name}/{part.name}/"))
            alone = msgspec.structs.replace(build, signature=part.signature, files=below, parts=())
            opened[part.name] = open_part(part, alone)
        return PartsSession(build.signature, opened)
    except BaseException:
        for session in opened.values():
            session.close()
        raise


def decoder_inputs(signature: Signature, given: Arrays, rows: int) -> Arrays:
    """The decoder's inputs but its tokens, from what the encoder was given and gave.

    Raises BundleError for an input that no name explains.
    """
    inputs: Arrays = {}
    for spec in signature.inputs:
        if spec.name == TOKENS:
            continue
        source = spec.name.replace(PAST, PRESENT, 1) if spec.name.startswith(PAST) else spec.name
        if source in given:
            inputs[spec.name] = given[source]
        elif spec.name.startswith(PAST):
            shape = [rows, *(size if isinstance(size, int) else 0 for size in spec.shape[1:])]
            inputs[spec.name] = np.zeros(shape, dtype=spec.dtype)
        else:
            raise BundleError(
                f"expected decoder inputs that the encoder gives (found {', '.join(sorted(given))}) or that begin with "
                f"{PAST}, found {spec.name!r}; export the bundle again"
            )
    return inputs


def feedback(signature: Signature) -> dict[str, str]:
    """The decoder's outputs that are inputs of its next step: output name to input name."""
    inputs = {spec.name for spec in signature.inputs}
    names = {spec.name: spec.name.replace(PRESENT, PAST, 1) for spec in signature.outputs}
    return {output: name for output, name in names.items() if output.startswith(PRESENT) and name in inputs}


def merged_executions(parts: dict[str, Execution]) -> Execution:
    """What the parts execute as one: their layers in order, named by their part where two have one name."""
    every = [layer.name for execution in parts.values() for layer in execution.layers]
    layers = tuple(
        layer if every.count(layer.name) == 1 else msgspec.structs.replace(layer, name=f"{part}.{layer.name}")
        for part, execution in parts.items()
        for layer in execution.layers
    )
    executions = list(parts.values())
    return Execution(
        precision=_precision(executions, layers),
        provider=_joined(execution.provider for execution in executions),
        instruction_set=_joined(execution.instruction_set for execution in executions),
        quantized_requested=sum(execution.quantized_requested for execution in executions),
        quantized_executed=sum(execution.quantized_executed for execution in executions),
        layers=layers,
        warnings=tuple(warning for execution in executions for warning in execution.warnings),
    )


def _precision(executions: list[Execution], layers: tuple[ExecutedLayer, ...]) -> str:
    """The one they share, else the one that most layers run in."""
    found = {execution.precision for execution in executions}
    executed = [layer.executed for layer in layers]
    return found.pop() if len(found) == 1 or not executed else max(executed, key=executed.count)


def _joined(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
