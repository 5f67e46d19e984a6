"""The recurrent models: against NumPy, padding, carried states, parts, and what their signatures say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from edgevit.errors import InputError
from edgevit.types import Signature
from edgevit.zoo.recurrent import (
    Seq2SeqRecurrent,
    Tagger,
    decoder_signature,
    encoder_signature,
    initialize_recurrent,
    initialize_tagger,
    mirror,
    tagger_signature,
    whole_signature,
)
from edgevit.zoo.sequence_config import RecurrentConfig, TaggerConfig

CELLS = ("lstm", "gru")


def perturbed(model: torch.nn.Module) -> torch.nn.Module:
    """Every parameter another one: a bias of zero would hide that it is not used."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.requires_grad_(False)


def make(cell: str) -> Seq2SeqRecurrent:
    sizes = {"dim": 6, "encoder_hidden": 5, "decoder_hidden": 7, "encoder_layers": 2, "decoder_layers": 2}
    config = RecurrentConfig(cell=cell, source_vocabulary=31, target_vocabulary=29, **sizes)  # type: ignore[arg-type]
    return perturbed(initialize_recurrent(config))  # type: ignore[return-value]


def make_tagger(cell: str) -> Tagger:
    config = TaggerConfig(cell=cell, vocabulary=31, tags=4, dim=6, hidden=5, layers=2)  # type: ignore[arg-type]
    return perturbed(initialize_tagger(config))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def ragged() -> tuple[Tensor, Tensor, Tensor]:
    """Three sources of 9, 5 and 1 tokens, their mask, and targets of 7."""
    generator = torch.Generator().manual_seed(0)
    mask = (torch.arange(9) < torch.tensor([[9], [5], [1]])).long()
    source = torch.randint(4, 29, (3, 9), generator=generator) * mask
    return source, mask, torch.randint(4, 29, (3, 7), generator=generator)


# ------------------------------------------------------------------------------------------- against NumPy


class Numpy:
    """The cells' formulas as PyTorch documents them, for one sequence, in float64."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.state = {name: value.double().numpy() for name, value in model.state_dict().items()}

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def step(self, cell: str, name: str, x: np.ndarray, past: list[np.ndarray]) -> list[np.ndarray]:
        def sigmoid(value: np.ndarray) -> np.ndarray:
            return 1 / (1 + np.exp(-value))

        read = self.state[f"{name}.weight_ih_l0"] @ x + self.state[f"{name}.bias_ih_l0"]
        kept = self.state[f"{name}.weight_hh_l0"] @ past[0] + self.state[f"{name}.bias_hh_l0"]
        if cell == "rnn":
            return [np.tanh(read + kept)]
        if cell == "gru":
            (reset, update, new), (reset_h, update_h, new_h) = np.split(read, 3), np.split(kept, 3)
            gate = sigmoid(update + update_h)
            return [(1 - gate) * np.tanh(new + sigmoid(reset + reset_h) * new_h) + gate * past[0]]
        into, forget, new, out = np.split(read + kept, 4)
        carried = sigmoid(forget) * past[1] + sigmoid(into) * np.tanh(new)
        return [sigmoid(out) * np.tanh(carried), carried]

    def read(self, cell: str, name: str, x: np.ndarray, past: list[np.ndarray]) -> np.ndarray:
        hidden = []
        for row in x:
            past = self.step(cell, name, row, past)
            hidden.append(past[0])
        return np.stack(hidden)

    def both_ways(self, cell: str, name: str, x: np.ndarray, width: int) -> np.ndarray:
        zeros = [np.zeros(width)] * 2
        back = self.read(cell, f"{name}.right_to_left", x[::-1], zeros)[::-1]
        return np.concatenate((self.read(cell, f"{name}.left_to_right", x, zeros), back), axis=1)


@pytest.mark.parametrize("cell", CELLS)
def test_the_forward_pass_is_the_papers(cell: str, ragged: tuple[Tensor, Tensor, Tensor]) -> None:
    source, mask, target = ragged
    model = make(cell)
    reference, found = Numpy(model), model(source, mask, target).numpy()
    for row, length in enumerate((9, 5, 1)):
        x = reference.state["encoder.embed.weight"][source[row, :length].numpy()]
        for layer in range(2):
            x = reference.both_ways(cell, f"encoder.layers.{layer}", x, 5)
        context = np.concatenate((x[-1, :5], x[0, 5:]))
        y = reference.state["decoder.embed.weight"][target[row].numpy()]
        for layer in range(2):
            past = [np.tanh(reference.linear(context, f"encoder.states.{layer}.hidden"))]
            if cell == "lstm":
                past.append(reference.linear(context, f"encoder.states.{layer}.cell"))
            y = reference.read(cell, f"decoder.layers.{layer}", y, past)
        expected = reference.linear(y, "decoder.out_proj") @ reference.state["decoder.embed.weight"].T
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", ["rnn", *CELLS])
def test_a_tagger_reads_both_ways(cell: str, ragged: tuple[Tensor, Tensor, Tensor]) -> None:
    source, mask, _ = ragged
    model = make_tagger(cell)
    reference, found = Numpy(model), model(source, mask).numpy()
    for row, length in enumerate((9, 5, 1)):
        x = reference.state["embed.weight"][source[row, :length].numpy()]
        for layer in range(2):
            x = reference.both_ways(cell, f"layers.{layer}", x, 5)
        np.testing.assert_allclose(found[row, :length], reference.linear(x, "head"), rtol=1e-4, atol=1e-5)


# ----------------------------------------------------------------------------------------- padding, states


def test_mirroring_turns_the_tokens_and_leaves_the_padding() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    assert mirror(mask).tolist() == [[3, 2, 1, 0], [1, 0, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize("cell", CELLS)
def test_padding_changes_nothing(cell: str, ragged: tuple[Tensor, Tensor, Tensor]) -> None:
    source, mask, target = ragged
    model = make(cell)
    whole = model(source, mask, target)
    for row in (1, 2):
        length = int(mask[row].sum())
        alone = model(source[row : row + 1, :length], mask[row : row + 1, :length], target[row : row + 1])
        torch.testing.assert_close(whole[row : row + 1], alone)
    assert torch.equal(model(torch.where(mask == 0, 17, source), mask, target), whole)


@pytest.mark.parametrize("cell", ["rnn", *CELLS])
def test_padding_changes_no_tag(cell: str, ragged: tuple[Tensor, Tensor, Tensor]) -> None:
    source, mask, _ = ragged
    model = make_tagger(cell)
    torch.testing.assert_close(model(source, mask)[1:2, :5], model(source[1:2, :5], mask[1:2, :5]))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps", [(1,) * 7, (3, 1, 2, 1)])
def test_carried_states_are_as_the_whole(
    cell: str, steps: tuple[int, ...], ragged: tuple[Tensor, Tensor, Tensor]
) -> None:
    source, mask, target = ragged
    model = make(cell)
    states = model.encode(source, mask)
    logits = []
    for ids in target.split(list(steps), dim=1):
        out, *states = model.decode(ids, *states)  # type: ignore[assignment]
        logits.append(out)
    torch.testing.assert_close(torch.cat(logits, dim=1), model(source, mask, target))


# -------------------------------------------------------------------------------------- parts, signatures


def fits(signature: Signature, tensors: tuple[Tensor, ...], inputs: bool) -> None:
    specs = signature.inputs if inputs else signature.outputs
    assert len({spec.name for spec in specs}) == len(specs) == len(tensors)
    for spec, tensor in zip(specs, tensors, strict=True):
        assert str(tensor.dtype) == f"torch.{spec.dtype}", spec.name
        assert [size for size in spec.shape if isinstance(size, int)] == list(tensor.shape[-1:]) or inputs
        assert tensor.ndim == len(spec.shape), spec.name


@pytest.mark.parametrize("cell", CELLS)
def test_the_parts_are_the_whole_and_fit_their_signatures(cell: str, ragged: tuple[Tensor, Tensor, Tensor]) -> None:
    source, mask, target = ragged
    model = make(cell)
    parts = model.parts()
    named = {part: dict(module.named_parameters()) for part, module in parts.items()}
    assert named["encoder"].keys() & named["decoder"].keys() == set()
    whole = dict(model.named_parameters())
    assert {**named["encoder"], **named["decoder"]}.keys() == whole.keys()
    assert all(value is whole[name] for part in named.values() for name, value in part.items())
    states = parts["encoder"](source, mask)
    out = parts["decoder"](target, *states)
    assert torch.equal(out[0], model(source, mask, target))
    fits(whole_signature(model.config), (out[0],), inputs=False)
    fits(encoder_signature(model.config), states, inputs=False)
    fits(decoder_signature(model.config), (target, *states), inputs=True)
    fits(decoder_signature(model.config), out, inputs=False)
    last = "cell" if cell == "lstm" else "hidden"
    assert decoder_signature(model.config).inputs[-1].name == f"past_key_values.1.{last}"
    assert encoder_signature(model.config).outputs[-1].name == f"present.1.{last}"


@pytest.mark.parametrize("cell", ["rnn", *CELLS])
def test_a_tagger_fits_its_signature(cell: str, ragged: tuple[Tensor, Tensor, Tensor]) -> None:
    source, mask, _ = ragged
    model = make_tagger(cell)
    fits(tagger_signature(model.config), (model(source, mask),), inputs=False)


def test_a_size_of_zero_is_refused() -> None:
    with pytest.raises(InputError, match="hidden of at least 1, found 0"):
        TaggerConfig(cell="rnn", vocabulary=31, tags=4, dim=6, hidden=0)
