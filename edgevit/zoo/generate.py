"""What an encoder-decoder writes, by running the whole of it again for every token: the reference, not the fast way.

This module imports torch; import it inside the function that uses it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.types import Generation


def generate(module: nn.Module, input_ids: Tensor, attention_mask: Tensor, generation: Generation) -> list[list[int]]:
    """The ids written for each source: without the start token, with the end token where it was reached.

    `module` is the teacher-forced whole: `module(input_ids, attention_mask, decoder_input_ids)` -> logits. Sources are
    int64 (batch, source_length), padded on the right. With one beam the likeliest token is taken at each step, the
    lowest id among equals. Raises InputError for a number of beams or a length below 1.
    """
    if generation.beams < 1 or generation.max_length < 1:
        raise InputError(
            f"expected at least one beam and one token, found beams {generation.beams} and max_length "
            f"{generation.max_length}; change the generation settings"
        )
    with torch.inference_mode():
        if generation.beams == 1:
            return _greedy(module, input_ids, attention_mask, generation)
        rows = [slice(row, row + 1) for row in range(input_ids.shape[0])]
        return [_beam_search(module, input_ids[row], attention_mask[row], generation) for row in rows]


def _greedy(module: nn.Module, input_ids: Tensor, attention_mask: Tensor, generation: Generation) -> list[list[int]]:
    batch = input_ids.shape[0]
    target = torch.full((batch, 1), generation.start_token_id)
    ended = torch.zeros(batch, dtype=torch.bool)
    while not ended.all() and target.shape[1] <= generation.max_length:
        chosen = module(input_ids, attention_mask, target)[:, -1].argmax(-1)
        target = torch.cat((target, chosen.masked_fill(ended, generation.pad_token_id)[:, None]), dim=1)
        ended |= chosen == generation.end_token_id
    return [_until_end(row, generation.end_token_id) for row in target[:, 1:].tolist()]


def _until_end(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids


class Hypothesis(NamedTuple):
    ids: list[int]
    """Without the start token; with the end token in one that has ended."""
    log_probability: float

    def score(self, generation: Generation) -> float:
        return self.log_probability / math.pow(len(self.ids), generation.length_penalty)


def _beam_search(module: nn.Module, input_ids: Tensor, attention_mask: Tensor, generation: Generation) -> list[int]:
    """One source. Of the 2 * beams best continuations, the ends among the first `beams` are kept, the others go on."""
    beams, ended = generation.beams, list[Hypothesis]()
    running = [Hypothesis([], 0.0)]
    for _ in range(generation.max_length):
        going: list[Hypothesis] = []
        for rank, hypothesis in enumerate(_continuations(module, input_ids, attention_mask, running, generation)):
            if hypothesis.ids[-1] != generation.end_token_id:
                going.append(hypothesis)
            elif rank < beams:
                ended.append(hypothesis)
        running = going[:beams]
        ended = sorted(ended, key=lambda found: -found.score(generation))[:beams]
        if not running or (len(ended) == beams and (generation.early_stopping or _beaten(running, ended, generation))):
            break
    else:
        ended += running  # the length is used up: what has no end competes as it is
    return max(ended, key=lambda found: found.score(generation)).ids


def _beaten(running: list[Hypothesis], ended: list[Hypothesis], generation: Generation) -> bool:
    """Whether the worst of those that have ended scores as well as the best that goes on."""
    return ended[-1].score(generation) >= running[0].score(generation)


def _continuations(
    module: nn.Module, input_ids: Tensor, attention_mask: Tensor, running: list[Hypothesis], generation: Generation
) -> list[Hypothesis]:
    """The 2 * beams likeliest of all running hypotheses with one more token, best first."""
    target = torch.tensor([[generation.start_token_id, *hypothesis.ids] for hypothesis in running])
    copies = len(running)
    logits = module(input_ids.expand(copies, -1), attention_mask.expand(copies, -1), target)[:, -1]
    before = torch.tensor([hypothesis.log_probability for hypothesis in running])
    total = torch.log_softmax(logits, dim=-1) + before[:, None]
    best = total.flatten().topk(min(2 * generation.beams, total.numel()))
    return [
        Hypothesis([*running[place // total.shape[1]].ids, place % total.shape[1]], value)
        for value, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
