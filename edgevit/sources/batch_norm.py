"""Batch norms folded into the convolutions before them, as every engine and ONNX exporter does it.

The exporter folds them anyway and then no weight in the graph is a parameter of the model any more; folded here, the
parameters are those that are quantized. The result differs from the original by float32 rounding only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

ROUNDING = 1e-4
"""Relative error of the output that folding may bring: 80 dB, what the lowered graph must keep as well."""


def fold_batch_norms(module: nn.Module, example: Tensor) -> int:
    """Folds every BatchNorm2d that reads the output of a Conv2d into it; returns how many.

    `module` is in evaluation mode and changed in place: the norm becomes an Identity. One call on `example` (noise)
    shows who reads what; where the model's output then differs by more than rounding, because a convolution's output
    has other readers too, everything is put back and 0 returned.
    """
    import torch
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    pairs, expected = _pairs(module, example)
    before = [(conv, conv.weight, conv.bias) for conv, _ in pairs]
    for conv, norm in pairs:
        assert norm.running_mean is not None and norm.running_var is not None
        with torch.no_grad():
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
    folded = {id(norm) for _, norm in pairs}
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if id(child) in folded:
                replaced.append((parent, name, child))
                setattr(parent, name, nn.Identity())
    with torch.no_grad():
        difference = module(example) - expected
    if difference.norm() <= ROUNDING * expected.norm():
        return len(pairs)
    for conv, weight, bias in before:
        conv.weight, conv.bias = weight, bias
    for parent, name, child in replaced:
        setattr(parent, name, child)
    return 0


def _pairs(module: nn.Module, example: Tensor) -> tuple[list[tuple[nn.Conv2d, nn.BatchNorm2d]], Tensor]:
    import torch
    from torch import nn

    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    """By id of the tensor; the tensors are kept so that no id is given twice."""
    calls: list[nn.Module] = []
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after_conv(conv: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        calls.append(conv)
        outputs[id(output)] = (conv, output)

    def before_norm(norm: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        calls.append(norm)
        if id(arguments[0]) in outputs and norm.track_running_stats:
            found.append((outputs[id(arguments[0])][0], norm))

    handles = [part.register_forward_hook(after_conv) for part in module.modules() if isinstance(part, nn.Conv2d)]
    handles += [
        part.register_forward_pre_hook(before_norm) for part in module.modules() if isinstance(part, nn.BatchNorm2d)
    ]
    try:
        with torch.no_grad():
            result: Tensor = module(example)
    finally:
        for handle in handles:
            handle.remove()
    return [pair for pair in found if all(calls.count(part) == 1 for part in pair)], result
