"""What a Vision Transformer is made of, as a value. Importing this needs no torch."""

from __future__ import annotations

from edgevit.errors import InputError
from edgevit.types import Value


class ViTConfig(Value, frozen=True, kw_only=True):
    """The architecture of a Vision Transformer; together with a state dict it is the whole model."""

    image_size: tuple[int, int]
    """(height, width) of the input, pixels; each a multiple of `patch_size`."""
    patch_size: int = 16
    channels: int = 3
    dim: int
    """Width of a token; a multiple of `heads`."""
    depth: int
    """Number of attention blocks."""
    heads: int
    mlp_ratio: float = 4.0
    classes: int = 1000
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True

    def __post_init__(self) -> None:
        if self.patch_size < 1 or any(side < 1 or side % self.patch_size for side in self.image_size):
            height, width = self.image_size
            raise InputError(
                f"expected an image size in multiples of the patch size {self.patch_size}, found {height}x{width} "
                "(height x width); choose another image size"
            )
        if self.heads < 1 or self.dim % self.heads:
            raise InputError(
                f"expected a width (dim) in multiples of the number of heads, found dim {self.dim} with "
                f"{self.heads} heads; change one of them"
            )
        if min(self.depth, self.channels, self.classes, self.hidden) < 1:
            raise InputError(
                "expected at least one block, channel, class and hidden unit, found "
                f"depth {self.depth}, channels {self.channels}, classes {self.classes}, hidden {self.hidden}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along (height, width)."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def prefix(self) -> int:
        """Tokens before the patches: the class token."""
        return 1

    @property
    def tokens(self) -> int:
        """Length of the sequence: the patches and what stands before them."""
        return self.grid[0] * self.grid[1] + self.prefix

    @property
    def hidden(self) -> int:
        """Width of the MLP's hidden layer."""
        return int(self.dim * self.mlp_ratio)


class DistilledViTConfig(ViTConfig, frozen=True, kw_only=True):
    """DeiT's with a second token and a second head, which a teacher taught (arXiv:2012.12877, section 4)."""

    @property
    def prefix(self) -> int:
        """Tokens before the patches: those of the class and of the teacher."""
        return 2
