"""The Vision Transformer against timm's names, against NumPy, and through torch.export."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevit.errors import InputError
from edgevit.zoo import ViTConfig, vit_config
from edgevit.zoo.vit import empty_vit, initialize_vit, resize_position_embedding

SMALL = ViTConfig(image_size=(16, 24), patch_size=8, channels=3, dim=24, depth=2, heads=3, classes=5)


def test_names_and_shapes_are_those_of_timms_vit_base() -> None:
    published = json.loads((Path(__file__).parent / "timm_vit_base_patch16_224.json").read_text())
    ours = {name: list(value.shape) for name, value in empty_vit(vit_config("base", 224)).state_dict().items()}
    assert ours == published
    assert list(ours) == list(published), "the order of the names is timm's too"


@pytest.mark.parametrize(
    ("size", "pixels", "parameters"),
    # Published counts: timm's results table and DeiT's model zoo.
    [
        ("tiny", 224, 5_717_416),
        ("small", 224, 22_050_664),
        ("base", 224, 86_567_656),
        ("large", 224, 304_326_632),
        ("base", 384, 86_859_496),
    ],
)
def test_parameter_counts_are_the_published_ones(size: str, pixels: int, parameters: int) -> None:
    model = empty_vit(vit_config(size, pixels))
    assert sum(value.numel() for value in model.parameters()) == parameters


def _numpy_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


def _numpy_vit(config: ViTConfig, state: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    """Section 3.1 of arXiv:2010.11929 for one image (channels, height, width), in float64."""

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return _numpy_norm(x, state[f"{name}.weight"], state[f"{name}.bias"], config.layer_norm_eps)

    p, (rows, columns) = config.patch_size, config.grid
    patches = [image[:, r * p : r * p + p, c * p : c * p + p].ravel() for r in range(rows) for c in range(columns)]
    kernel = state["patch_embed.proj.weight"].reshape(config.dim, -1)
    embedded = np.stack(patches) @ kernel.T + state["patch_embed.proj.bias"]
    x = np.concatenate((state["cls_token"][0], embedded)) + state["pos_embed"][0]
    erf = np.vectorize(math.erf)
    for i in range(config.depth):
        query, key, value = np.split(linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv"), 3, axis=1)
        heads = []
        for head in np.split(np.arange(config.dim), config.heads):
            scores = query[:, head] @ key[:, head].T / math.sqrt(len(head))
            weights = np.exp(scores - scores.max(1, keepdims=True))
            heads.append(weights / weights.sum(1, keepdims=True) @ value[:, head])
        x = x + linear(np.concatenate(heads, axis=1), f"blocks.{i}.attn.proj")
        hidden = linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1")
        x = x + linear(0.5 * hidden * (1 + erf(hidden / math.sqrt(2))), f"blocks.{i}.mlp.fc2")
    return linear(norm(x, "norm")[0], "head")


def test_the_forward_pass_is_the_papers() -> None:
    model = initialize_vit(SMALL, seed=3, std=0.3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    images = torch.randn(3, 3, 16, 24, generator=generator)
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}
    expected = np.stack([_numpy_vit(SMALL, state, image) for image in images.double().numpy()])
    with torch.no_grad():
        found = model(images).numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_initialization_is_the_seeds() -> None:
    first, again, other = (initialize_vit(SMALL, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert first["blocks.1.mlp.fc1.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(first["norm.weight"], torch.ones(24))
    assert not first["blocks.0.attn.qkv.bias"].any()


def test_qkv_without_bias_has_no_such_parameter() -> None:
    config = ViTConfig(image_size=(16, 16), patch_size=8, dim=24, depth=1, heads=3, classes=5, qkv_bias=False)
    assert "blocks.0.attn.qkv.bias" not in empty_vit(config).state_dict()


def test_export_keeps_the_batch_dynamic() -> None:
    model = initialize_vit(SMALL, std=0.3)
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(model, (torch.randn(2, 3, 16, 24),), dynamic_shapes=shapes).module()
    for batch in (1, 2, 3, 64):
        images = torch.randn(batch, 3, 16, 24)
        torch.testing.assert_close(program(images), model(images))


@pytest.mark.parametrize(
    ("source", "target"), [((6, 6), (9, 9)), ((6, 6), (4, 10)), ((5, 8), (7, 3)), ((8, 5), (5, 8))]
)
def test_positions_are_resized_as_pillow_resizes(source: tuple[int, int], target: tuple[int, int]) -> None:
    from PIL import Image

    positions = torch.randn(1, 1 + source[0] * source[1], 3, generator=torch.Generator().manual_seed(0))
    resized = resize_position_embedding(positions, source, target)
    assert resized.shape == (1, 1 + target[0] * target[1], 3)
    assert torch.equal(resized[:, 0], positions[:, 0]), "the class token has no place in the grid"
    for channel in range(3):
        image = Image.fromarray(positions[0, 1:, channel].reshape(source).numpy(), mode="F")
        expected = np.asarray(image.resize((target[1], target[0]), Image.Resampling.BICUBIC)).ravel()
        np.testing.assert_allclose(resized[0, 1:, channel].numpy(), expected, atol=1e-5)


def test_positions_of_the_same_grid_are_untouched() -> None:
    positions = torch.randn(1, 10, 4)
    assert resize_position_embedding(positions, (3, 3), (3, 3)) is positions


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": (50, 48)}, "multiples of the patch size 16, found 50x48"),
        ({"image_size": (0, 48)}, "found 0x48"),
        ({"heads": 5}, "dim 96 with 5 heads"),
        ({"depth": 0}, "depth 0"),
        ({"classes": 0}, "classes 0"),
    ],
)
def test_an_impossible_architecture_is_refused(changes: dict[str, object], words: str) -> None:
    settings = {"image_size": (48, 48), "dim": 96, "depth": 2, "heads": 4, **changes}
    with pytest.raises(InputError, match=words):
        ViTConfig(**settings)  # type: ignore[arg-type]
