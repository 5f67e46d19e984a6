"""The Vision Transformer of "An Image is Worth 16x16 Words" (Dosovitskiy et al., 2021, arXiv:2010.11929).

Parameter names are those of timm's `VisionTransformer`, so the state dicts that DeiT and timm publish load unchanged.
This module imports torch; import it inside the function that uses it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevit.zoo.config import DistilledViTConfig, ViTConfig

INIT_STD = 0.02
"""Standard deviation of the normal distribution that DeiT initializes weights, tokens and positions with."""


class PatchEmbed(nn.Module):
    """Cuts an image into patches and projects each: (batch, channels, height, width) -> (batch, patches, dim)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.channels, config.dim, kernel_size=config.patch_size, stride=config.patch_size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches: Tensor = self.proj(pixel_values)
        return patches.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention with one projection for query, key and value: (batch, tokens, dim) in and out."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.head_dim = config.dim // config.heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=config.qkv_bias)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return out


class Mlp(nn.Module):
    """Two linear layers with the exact (erf) GELU between them: (batch, tokens, dim) in and out."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.dim, config.hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(config.hidden, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class Block(nn.Module):
    """A pre-norm block: x + attention(norm1(x)), then x + mlp(norm2(x))."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Images to class scores: float32 (batch, channels, height, width) -> float32 (batch, classes)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, config.dim))
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.head = nn.Linear(config.dim, config.classes)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.patch_embed(pixel_values)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


class DistilledVisionTransformer(VisionTransformer):
    """With DeiT's distillation token: the mean of both heads' scores, as DeiT evaluates it."""

    def __init__(self, config: DistilledViTConfig) -> None:
        super().__init__(config)
        self.dist_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.head_dist = nn.Linear(config.dim, config.classes)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.patch_embed(pixel_values)
        tokens = (token.expand(x.shape[0], -1, -1) for token in (self.cls_token, self.dist_token))
        x = torch.cat((*tokens, x), dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        logits: Tensor = (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
        return logits


def empty_vit(config: ViTConfig) -> VisionTransformer:
    """The module on the meta device: names and shapes, no memory. Give it parameters before it is used."""
    with torch.device("meta"):
        return (
            DistilledVisionTransformer(config) if isinstance(config, DistilledViTConfig) else VisionTransformer(config)
        )


def initialize_vit(config: ViTConfig, seed: int = 0, std: float = INIT_STD) -> VisionTransformer:
    """A new float32 module in evaluation mode, initialized as DeiT's is; the same seed gives the same parameters.

    Weights, class token and position embedding: normal of standard deviation `std` (DeiT and timm take 0.02 and cut at
    ±2, which is a hundred standard deviations and never happens). Norms: 1 and 0. Biases: 0.
    """
    module = empty_vit(config).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            if name.endswith("bias"):
                parameter.zero_()
            elif "norm" in name:
                parameter.fill_(1.0)
            else:
                parameter.normal_(std=std, generator=generator)
    return module.eval()


def resize_position_embedding(
    positions: Tensor, source: tuple[int, int], target: tuple[int, int], prefix: int = 1
) -> Tensor:
    """The position embedding of another grid: float32 (1, prefix + h * w, dim) for `source` to the same for `target`.

    Grids are (height, width) in patches. The rows of the class token and its like are kept; the others are interpolated
    once as an image of `dim` channels, bicubic with antialiasing, which is what timm does when it loads a checkpoint at
    another size.
    """
    if source == target:
        return positions
    tokens, patches = positions[:, :prefix], positions[:, prefix:]
    image = patches.reshape(1, *source, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(image, size=target, mode="bicubic", antialias=True)
    return torch.cat((tokens, resized.permute(0, 2, 3, 1).flatten(1, 2)), dim=1)
