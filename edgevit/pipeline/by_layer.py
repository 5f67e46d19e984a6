"""The table of layers of one export: where its plan does its damage, on some of the evaluation samples."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from edgevit.parity.layers import layer_parity
from edgevit.pipeline.feeding import part_inputs
from edgevit.pipeline.parts import split
from edgevit.sets import take

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from edgevit.pipeline.assembly import Draft
    from edgevit.progress import Advance, Progress
    from edgevit.types import Arrays, LayerParity

BATCH = 2
"""Samples at a time, as the outputs of all layers are held, of both sides: 130 MB for each of a ViT-B."""


def by_layer(draft: Draft, progress: Progress) -> tuple[LayerParity, ...]:
    """Every layer's output, float against simulated; nothing without a plan, or where the recipe asks for none."""
    wanted = draft.recipe.parity.layers
    if draft.plan is None or wanted < 1:
        return ()
    size = draft.recipe.trace.batch or BATCH
    samples = draft.evaluation.samples
    batches: int | None = -(-min(wanted, len(samples)) // size)
    if samples.kind == "text":
        # They come by their length, and a text is several calls of a decoder: all of a few texts, not the first calls.
        samples, batches = take(samples, min(wanted, len(samples)), 0), None
    layers: list[LayerParity] = []
    with progress.task("parity of the layers", batches) as advance:
        for part, plan in split(draft.plan, draft.graphs).items():
            stream = part_inputs(draft.model, draft.graphs, part, samples, size)
            layers.extend(layer_parity(draft.graphs[part], plan, _counted(islice(stream, batches), advance)))
    return tuple(layers)


def _counted(batches: Iterable[Arrays], advance: Advance) -> Iterator[Arrays]:
    """The batches; each is done when the next one is asked for."""
    for done, batch in enumerate(batches):
        advance(done)
        yield batch
