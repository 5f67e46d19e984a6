"""The Transformer: against NumPy, its masks, its cache, its parts, and what its signatures say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from edgevit.errors import InputError
from edgevit.types import Signature
from edgevit.zoo.sequence_config import ClassifierConfig, TransformerConfig
from edgevit.zoo.transformer import (
    Seq2SeqTransformer,
    classifier_signature,
    decoder_signature,
    encoder_signature,
    initialize_classifier,
    initialize_transformer,
    sinusoidal_positions,
    whole_signature,
)

SMALL = TransformerConfig(
    source_vocabulary=31,
    target_vocabulary=29,
    dim=16,
    heads=4,
    encoder_layers=2,
    decoder_layers=3,
    hidden=24,
    max_length=24,
)


def perturbed(model: torch.nn.Module) -> torch.nn.Module:
    """Every parameter another one: a bias of zero would hide that it is not used."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def model() -> Seq2SeqTransformer:
    return perturbed(initialize_transformer(SMALL))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def ragged() -> tuple[Tensor, Tensor, Tensor]:
    """Three sources of 9, 5 and 1 tokens, their mask, and targets of 7."""
    generator = torch.Generator().manual_seed(0)
    mask = (torch.arange(9) < torch.tensor([[9], [5], [1]])).long()
    source = torch.randint(4, 29, (3, 9), generator=generator) * mask
    return source, mask, torch.randint(4, 29, (3, 7), generator=generator)


# ------------------------------------------------------------------------------------------- against NumPy


def _numpy_transformer(state: dict[str, np.ndarray], source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Section 3 of arXiv:1706.03762 for one source without padding, in float64."""

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(x.var(-1, keepdims=True) + SMALL.layer_norm_eps)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def attention(x: np.ndarray, y: np.ndarray, name: str, causal: bool) -> np.ndarray:
        query, key, value = linear(x, f"{name}.q_proj"), linear(y, f"{name}.k_proj"), linear(y, f"{name}.v_proj")
        heads = []
        for head in np.split(np.arange(SMALL.dim), SMALL.heads):
            scores = query[:, head] @ key[:, head].T / math.sqrt(len(head))
            if causal:
                scores[np.triu_indices(len(x), 1)] = -np.inf
            weights = np.exp(scores - scores.max(1, keepdims=True))
            heads.append(weights / weights.sum(1, keepdims=True) @ value[:, head])
        return linear(np.concatenate(heads, axis=1), f"{name}.out_proj")

    def embedded(ids: np.ndarray, name: str) -> np.ndarray:
        position, pair = np.arange(len(ids))[:, None], np.arange(SMALL.dim) // 2
        angle = position / 10000 ** (2 * pair / SMALL.dim)
        encoding = np.where(np.arange(SMALL.dim) % 2 == 0, np.sin(angle), np.cos(angle))
        return state[f"{name}.embed.weight"][ids] * math.sqrt(SMALL.dim) + encoding

    def feed_forward(x: np.ndarray, name: str) -> np.ndarray:
        return norm(x + linear(np.maximum(linear(x, f"{name}.fc1"), 0), f"{name}.fc2"), f"{name}.mlp_norm")

    x = embedded(source, "encoder")
    for i in range(SMALL.encoder_layers):
        name = f"encoder.layers.{i}"
        x = norm(x + attention(x, x, f"{name}.self_attn", causal=False), f"{name}.self_attn_norm")
        x = feed_forward(x, name)
    y = embedded(target, "decoder")
    for i in range(SMALL.decoder_layers):
        name = f"decoder.layers.{i}"
        y = norm(y + attention(y, y, f"{name}.self_attn", causal=True), f"{name}.self_attn_norm")
        y = norm(y + attention(y, x, f"{name}.cross_attn", causal=False), f"{name}.cross_attn_norm")
        y = feed_forward(y, name)
    return y @ state["decoder.embed.weight"].T


def test_the_forward_pass_is_the_papers(model: Seq2SeqTransformer, ragged: tuple[Tensor, Tensor, Tensor]) -> None:
    source, mask, target = ragged
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}
    found = model(source, mask, target).numpy()
    for row, length in enumerate((9, 5, 1)):
        expected = _numpy_transformer(state, source[row, :length].numpy(), target[row].numpy())
        assert np.abs(expected).max() > 1
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


def test_the_base_model_is_the_papers() -> None:
    from edgevit.zoo.transformer import empty_transformer

    base = TransformerConfig(source_vocabulary=37000, target_vocabulary=37000)
    parameters = sum(p.numel() for p in empty_transformer(base).parameters())
    # Table 3 says 65 million with one embedding for both languages; a second one is 37000 * 512 more.
    assert parameters - 37000 * 512 == pytest.approx(65e6, rel=0.04)


def test_positions_are_sines_and_cosines() -> None:
    found = sinusoidal_positions(50, 8)
    assert found.shape == (50, 8)
    assert found[7, 4].item() == pytest.approx(math.sin(7 / 10000 ** (4 / 8)))
    assert found[7, 5].item() == pytest.approx(math.cos(7 / 10000 ** (4 / 8)))


def test_the_names_are_the_promised_ones(model: Seq2SeqTransformer) -> None:
    names = set(model.state_dict())
    attention = {f"{kind}_proj.{part}" for kind in ("q", "k", "v", "out") for part in ("weight", "bias")}
    assert {f"encoder.layers.1.self_attn.{name}" for name in attention} <= names
    assert {f"decoder.layers.2.cross_attn.{name}" for name in attention} <= names
    assert {"encoder.embed.weight", "decoder.embed.weight", "decoder.layers.0.mlp_norm.bias"} <= names
    assert not [name for name in names if "positions" in name or "head" in name or name.startswith("lm")]


def test_the_output_projection_is_the_decoders_embedding(ragged: tuple[Tensor, Tensor, Tensor]) -> None:
    model = initialize_transformer(SMALL).requires_grad_(False)
    inputs = [tensor.clamp(max=27) for tensor in ragged]  # so that row 28 is read by the projection alone
    before = model(*inputs)
    model.decoder.embed.weight[28] *= 3.0
    after = model(*inputs)
    torch.testing.assert_close(after[..., :28], before[..., :28])
    torch.testing.assert_close(after[..., 28], 3.0 * before[..., 28])


# --------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("row", [1, 2])
def test_padding_changes_nothing(model: Seq2SeqTransformer, ragged: tuple[Tensor, Tensor, Tensor], row: int) -> None:
    source, mask, target = ragged
    length = int(mask[row].sum())
    alone = model(source[row : row + 1, :length], mask[row : row + 1, :length], target[row : row + 1])
    torch.testing.assert_close(model(source, mask, target)[row : row + 1], alone, rtol=1e-4, atol=1e-5)
    other = torch.where(mask == 0, 17, source)
    assert torch.equal(model(other, mask, target), model(source, mask, target)), "what stands in the padding is unseen"


def test_no_token_sees_a_later_one(model: Seq2SeqTransformer, ragged: tuple[Tensor, Tensor, Tensor]) -> None:
    source, mask, target = ragged
    changed = target.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % 29
    before, after = model(source, mask, target), model(source, mask, changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4] - after[:, 4]).abs().max() > 0.01


def test_a_row_of_padding_alone_gives_numbers(model: Seq2SeqTransformer) -> None:
    nothing = torch.zeros(1, 3, dtype=torch.long)
    assert model(nothing, nothing, torch.ones(1, 2, dtype=torch.long)).isfinite().all()


# --------------------------------------------------------------------------------------------- cache, parts


@pytest.mark.parametrize("steps", [(1,) * 7, (3, 1, 2, 1), (7,)])
def test_with_the_cache_is_as_without(
    model: Seq2SeqTransformer, ragged: tuple[Tensor, Tensor, Tensor], steps: tuple[int, ...]
) -> None:
    source, mask, target = ragged
    _, *from_source = model.encode(source, mask)
    past: tuple[Tensor, ...] = model.empty_past(3)
    logits = []
    for ids in target.split(list(steps), dim=1):
        out, *past = model.decode(ids, mask, *from_source, *past)  # type: ignore[assignment]
        logits.append(out)
    torch.testing.assert_close(torch.cat(logits, dim=1), model(source, mask, target), rtol=1e-4, atol=1e-5)


def test_the_parts_are_the_whole_and_share_no_parameter(
    model: Seq2SeqTransformer, ragged: tuple[Tensor, Tensor, Tensor]
) -> None:
    source, mask, target = ragged
    parts = model.parts()
    named = {part: dict(module.named_parameters()) for part, module in parts.items()}
    assert named["encoder"].keys() & named["decoder"].keys() == set()
    whole = dict(model.named_parameters())
    assert named["encoder"].keys() | named["decoder"].keys() == whole.keys()
    assert all(value is whole[name] for part in named.values() for name, value in part.items())
    assert "decoder.layers.2.cross_attn.v_proj.bias" in named["encoder"]
    _, *from_source = parts["encoder"](source, mask)
    found = parts["decoder"](target, mask, *from_source, *model.empty_past(3))[0]
    assert torch.equal(found, model(source, mask, target))


def fits(signature: Signature, tensors: tuple[Tensor, ...], inputs: bool) -> None:
    """Each tensor has the type and the number of dimensions that the signature gives it, and its fixed sizes."""
    specs = signature.inputs if inputs else signature.outputs
    assert len({spec.name for spec in specs}) == len(specs) == len(tensors)
    for spec, tensor in zip(specs, tensors, strict=True):
        assert str(tensor.dtype) == f"torch.{spec.dtype}", spec.name
        assert tensor.ndim == len(spec.shape), spec.name
        for size, found in zip(spec.shape, tensor.shape, strict=True):
            assert isinstance(size, str) or size == found, spec.name


def test_the_signatures_are_what_goes_in_and_out(
    model: Seq2SeqTransformer, ragged: tuple[Tensor, Tensor, Tensor]
) -> None:
    source, mask, target = ragged
    encoded = model.encode(source, mask)
    arguments = (target, mask, *encoded[1:], *model.empty_past(3))
    fits(whole_signature(SMALL), ragged, inputs=True)
    fits(whole_signature(SMALL), (model(*ragged),), inputs=False)
    fits(encoder_signature(SMALL), (source, mask), inputs=True)
    fits(encoder_signature(SMALL), encoded, inputs=False)
    fits(decoder_signature(SMALL), arguments, inputs=True)
    fits(decoder_signature(SMALL), model.decode(*arguments), inputs=False)
    names = [spec.name for spec in decoder_signature(SMALL).inputs]
    assert names[2:4] == ["past_key_values.0.encoder.key", "past_key_values.0.encoder.value"]
    assert names[-1] == "past_key_values.2.decoder.value"
    assert encoder_signature(SMALL).outputs[-1].name == "present.2.encoder.value"


def test_both_parts_export_with_dynamic_sizes(model: Seq2SeqTransformer) -> None:
    dim = torch.export.Dim.AUTO
    parts, mask = model.parts(), torch.ones(2, 5, dtype=torch.long)
    encoded = model.encode(mask * 7, mask)[1:]
    past = tuple(torch.randn(2, 4, 3, 4) for _ in range(6))
    ids = {0: dim, 1: dim}
    caches = ({0: dim, 2: dim},) * 12
    encoder = torch.export.export(parts["encoder"], (mask * 7, mask), dynamic_shapes=(ids, ids)).module()
    shapes = {"input_ids": ids, "encoder_attention_mask": ids, "past": caches}
    arguments = (torch.ones(2, 4, dtype=torch.long), mask, *encoded, *past)
    decoder = torch.export.export(parts["decoder"], arguments, dynamic_shapes=shapes).module()
    for batch, source, target, before in [(1, 1, 1, 0), (3, 24, 23, 1), (2, 6, 24, 0)]:
        ids_in, mask_in = torch.full((batch, source), 7), torch.ones(batch, source, dtype=torch.long)
        from_source = encoder(ids_in, mask_in)
        torch.testing.assert_close(from_source, model.encode(ids_in, mask_in), rtol=1e-4, atol=1e-5)
        past = tuple(torch.randn(batch, 4, before, 4) for _ in range(6))
        call = (torch.full((batch, target), 9), mask_in, *from_source[1:], *past)
        torch.testing.assert_close(decoder(*call), model.decode(*call), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------- classifier


def test_the_classifier_takes_the_mean_of_the_real_tokens() -> None:
    config = ClassifierConfig(vocabulary=31, classes=5, dim=16, heads=4, encoder_layers=2, hidden=24)
    model = perturbed(initialize_classifier(config))
    source = torch.randint(4, 31, (2, 6))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    logits = model(source, mask)
    torch.testing.assert_close(logits[1:], model(source[1:, :3], mask[1:, :3]), rtol=1e-4, atol=1e-5)
    states = model.encoder(source[1:, :3], mask[1:, :3])  # type: ignore[operator]
    torch.testing.assert_close(logits[1:], model.head(states.mean(1)), rtol=1e-4, atol=1e-5)  # type: ignore[operator]
    fits(classifier_signature(config), (logits,), inputs=False)


# ------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 5}, "dim 16 with 5 heads"),
        ({"dim": 15, "heads": 3}, "even width"),
        ({"decoder_layers": 0}, "decoder_layers of at least 1, found 0"),
        ({"target_vocabulary": 0}, "target_vocabulary of at least 1"),
    ],
)
def test_an_impossible_architecture_is_refused(changes: dict[str, int], words: str) -> None:
    settings = {"source_vocabulary": 31, "target_vocabulary": 29, "dim": 16, "heads": 4, **changes}
    with pytest.raises(InputError, match=words):
        TransformerConfig(**settings)


def test_initialization_is_the_seeds() -> None:
    first, again, other = (initialize_transformer(SMALL, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.embed.weight"], other["encoder.embed.weight"])
    assert first["decoder.layers.0.fc1.weight"].std().item() == pytest.approx(math.sqrt(2 / 40), rel=0.2)
    assert torch.equal(first["decoder.layers.0.mlp_norm.weight"], torch.ones(16))
