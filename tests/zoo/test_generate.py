"""The reference's own generation: greedy, and beams against every sequence there is."""

from __future__ import annotations

import itertools

import msgspec
import pytest
import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.types import Generation
from edgevit.zoo.generate import generate
from edgevit.zoo.sequence_config import TransformerConfig
from edgevit.zoo.transformer import initialize_transformer

END = 1
SETTINGS = Generation(start_token_id=0, end_token_id=END, pad_token_id=4, max_length=4)


class Markov(nn.Module):
    """Logits that depend on the token before and on the source's first token."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.table = torch.randn(5, 5, 5, generator=torch.Generator().manual_seed(seed)) * 2
        self.table[:, :, 4] = -1e4  # padding is never written

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        return self.table[input_ids[:, :1], decoder_input_ids]


def every_sequence(module: Markov, source: int, settings: Generation) -> list[tuple[float, list[int]]]:
    """Score and ids of all that can be written, by multiplying out."""
    logs = torch.log_softmax(module.table[source], dim=-1)
    found = []
    for length in range(1, settings.max_length + 1):
        for ids in itertools.product(range(4), repeat=length):
            if END in ids[:-1] or (ids[-1] != END and length < settings.max_length):
                continue
            total = sum(float(logs[a, b]) for a, b in itertools.pairwise((settings.start_token_id, *ids)))
            found.append((total / length**settings.length_penalty, list(ids)))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(6))
def test_as_many_beams_as_sequences_find_the_best_of_all(seed: int, penalty: float) -> None:
    module = Markov(seed)
    settings = msgspec.structs.replace(SETTINGS, beams=200, length_penalty=penalty, early_stopping=False)
    sources = torch.tensor([[0], [3]])
    found = generate(module, sources, torch.ones_like(sources), settings)
    assert found == [every_sequence(module, source, settings)[0][1] for source in (0, 3)]


def test_greedy_takes_the_likeliest_token_each_time_and_stops_at_the_end() -> None:
    module = Markov(1)
    sources = torch.arange(4)[:, None]
    for source, ids in enumerate(generate(module, sources, torch.ones_like(sources), SETTINGS)):
        expected: list[int] = []
        while len(expected) < 4 and END not in expected:
            expected.append(int(module.table[source, expected[-1] if expected else 0].argmax()))
        assert ids == expected


def test_some_beam_does_better_than_greedy() -> None:
    better = 0
    for seed in range(20):
        module, one = Markov(seed), torch.zeros(1, 1, dtype=torch.long)
        scores = {ids: score for score, ids in ((s, tuple(i)) for s, i in every_sequence(module, 0, SETTINGS))}
        greedy, wide = (
            scores[tuple(generate(module, one, one, msgspec.structs.replace(SETTINGS, beams=beams))[0])]
            for beams in (1, 4)
        )
        better += wide > greedy
    assert better > 0


@pytest.mark.parametrize("beams", [1, 3])
def test_a_ragged_batch_is_as_one_by_one(beams: int) -> None:
    config = TransformerConfig(
        source_vocabulary=20, target_vocabulary=20, dim=16, heads=2, encoder_layers=1, decoder_layers=1, hidden=16
    )
    model = initialize_transformer(config, seed=3)
    settings = Generation(start_token_id=2, end_token_id=3, pad_token_id=0, max_length=6, beams=beams)
    mask = (torch.arange(7) < torch.tensor([[7], [2], [4]])).long()
    source = torch.randint(4, 20, (3, 7), generator=torch.Generator().manual_seed(0)) * mask
    together = generate(model, source, mask, settings)
    for row, length in enumerate((7, 2, 4)):
        alone = generate(model, source[row : row + 1, :length], mask[row : row + 1, :length], settings)
        assert together[row] == alone[0]


@pytest.mark.parametrize(("field", "value"), [("beams", 0), ("max_length", 0), ("max_length", -3)])
def test_impossible_settings_are_refused(field: str, value: int) -> None:
    one = torch.zeros(1, 1, dtype=torch.long)
    with pytest.raises(InputError, match=f"{field} {value}"):
        generate(Markov(0), one, one, msgspec.structs.replace(SETTINGS, **{field: value}))
