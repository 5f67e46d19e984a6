"""Recurrent layers stay whole through torch.export and become ONNX's own LSTM, GRU and RNN operators.

torch.export takes `nn.LSTM`, `nn.GRU` and `nn.RNN` apart step by step and freezes the length (torch 2.13: `your code
specialized it to be a constant`). While a model is captured they therefore call one operator of ours for each layer and
direction, `edgevit::recurrent`, and packed sequences keep their padding and their lengths side by side, so that
nothing has a shape that depends on values. Lowering translates the operator; `passes.recurrent_weights` then brings
the gates into ONNX's order and gives the weights back their names.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

NAME = "edgevit::recurrent"
CLASSES = ("LSTM", "GRU", "RNN")


@contextlib.contextmanager
def whole_recurrent_layers() -> Iterator[None]:
    """Within it torch's recurrent layers and packed sequences can be captured.

    It holds for the whole process: capture one model at a time.
    """
    from torch import nn
    from torch.nn.utils import rnn

    recurrent_operator()
    layers = [getattr(nn, name) for name in CLASSES]
    forwards = [layer.forward for layer in layers]
    # By their code, not by their name: models import these two functions under names of their own.
    functions = {rnn.pack_padded_sequence: _pack_padded_sequence, rnn.pad_packed_sequence: _pad_packed_sequence}
    codes = {function: function.__code__ for function in functions}
    try:
        for layer in layers:
            layer.forward = _forward
        for function, other in functions.items():
            function.__code__ = other.__code__
        yield
    finally:
        for layer, forward in zip(layers, forwards, strict=True):
            layer.forward = forward
        for function, code in codes.items():
            function.__code__ = code


@functools.cache
def recurrent_operator() -> Any:
    """`edgevit::recurrent`, one layer in one direction.

    x (length, batch, dim), lengths int64 (batch) or None, states hidden and cell (batch, width), weights of input and
    hidden state and their biases, if there are -> the hidden state at each step (length, batch, width; 0 behind a
    row's end), then hidden and cell at each row's own end.
    """
    import torch
    from torch import Tensor

    def recurrent(
        x: Tensor, lengths: Tensor | None, states: list[Tensor], weights: list[Tensor], mode: str, reverse: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _steps(functools.partial(_step, mode, weights), x, lengths, states, reverse)

    # torch reads the annotations as they are, and here they are text.
    recurrent.__annotations__ = {
        "x": Tensor,
        "lengths": Tensor | None,
        **dict.fromkeys(("states", "weights"), list[Tensor]),
        "mode": str,
        "reverse": bool,
        "return": tuple[Tensor, Tensor, Tensor],
    }
    operator = torch.library.custom_op(NAME, recurrent, mutates_args=())

    @operator.register_fake
    def _(
        x: Tensor, lengths: Any, states: Any, weights: list[Tensor], mode: str, reverse: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, batch = x.shape[:2]
        width = weights[1].shape[1]
        return x.new_empty(steps, batch, width), x.new_empty(batch, width), x.new_empty(batch, width)

    return torch.ops.edgevit.recurrent.default


def onnx_translation() -> dict[Any, Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=…)`."""
    return {recurrent_operator(): _onnx_recurrent}


# ---------------------------------------------------------------------------------------- what torch captures


def _forward(self: nn.RNNBase, input: Any, hx: Any = None) -> tuple[Any, Any]:
    """In place of `forward` of nn.LSTM, nn.GRU and nn.RNN."""
    import torch
    from torch.nn.utils.rnn import PackedSequence

    packed = isinstance(input, PackedSequence)
    data, lengths = (input.data, input.batch_sizes) if packed else (input, None)
    if self.proj_size or data.dim() != 3:
        raise NotImplementedError("recurrent layers with a projection, or of inputs without a batch, have no ONNX form")
    first = packed or self.batch_first
    x = data.transpose(0, 1) if first else data
    states = _first_states(self, x, hx)
    directions = 2 if self.bidirectional else 1
    after: list[tuple[Tensor, Tensor]] = []
    for layer in range(self.num_layers):
        outputs = []
        for direction in range(directions):
            index = layer * directions + direction
            y, hidden, cell = _one_way(self, x, lengths, (states[0][index], states[1][index]), (layer, direction))
            outputs.append(y)
            after.append((hidden, cell))
        x = outputs[0] if directions == 1 else torch.cat(outputs, dim=-1)
    hidden, cell = (torch.stack([pair[state] for pair in after]) for state in (0, 1))
    out: Any = x.transpose(0, 1) if first else x
    return PackedSequence(out, lengths) if packed else out, (hidden, cell) if self.mode == "LSTM" else hidden


def _first_states(layer: nn.RNNBase, x: Tensor, hx: Any) -> tuple[Tensor, Tensor]:
    """Hidden and cell states, (layers * directions, batch, width) each; the cell of what has none is not read."""
    if hx is not None:
        return hx if layer.mode == "LSTM" else (hx, hx)
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    zeros = x.new_zeros(count, x.shape[1], layer.hidden_size)
    return zeros, zeros


def _one_way(
    module: nn.RNNBase, x: Tensor, lengths: Tensor | None, states: tuple[Tensor, Tensor], which: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    import torch

    suffix = f"l{which[0]}{'_reverse' if which[1] else ''}"
    kinds = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if module.bias else ()))
    weights = [getattr(module, f"{kind}_{suffix}") for kind in kinds]
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.edgevit.recurrent(
        x, lengths, list(states), weights, module.mode, bool(which[1])
    )
    return result


def _pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True):  # type: ignore[no-untyped-def]
    from edgevit.graph.recurrent import packed

    return packed(input, lengths, batch_first)


def _pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):  # type: ignore[no-untyped-def]
    from edgevit.graph.recurrent import padded

    return padded(sequence, batch_first, padding_value, total_length)


def packed(x: Tensor, lengths: Any, batch_first: bool) -> Any:
    """A PackedSequence that holds the padded batch, batch first, as its data and the lengths as its batch sizes."""
    import torch
    from torch.nn.utils.rnn import PackedSequence

    return PackedSequence(x if batch_first else x.transpose(0, 1), torch.as_tensor(lengths, dtype=torch.int64))


def padded(sequence: Any, batch_first: bool, padding_value: float, total_length: Any) -> tuple[Tensor, Tensor]:
    """What `packed` holds; the batch is as long as it was, which is the longest row's length for a batch so padded."""
    from torch.nn import functional

    if padding_value != 0:
        raise NotImplementedError(f"padding with {padding_value} has no ONNX form; leave it at 0")
    data = sequence.data
    if total_length is not None and total_length is not data.shape[1]:
        data = functional.pad(data, (0, 0, 0, total_length - data.shape[1]))
    return (data if batch_first else data.transpose(0, 1)), sequence.batch_sizes


# ---------------------------------------------------------------------------------------- what it computes


def _steps(
    step: Callable[..., tuple[Tensor, Tensor]],
    x: Tensor,
    lengths: Tensor | None,
    states: list[Tensor],
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Step by step, as captured programs run in torch; rows that have ended keep their states."""
    import torch

    hidden, cell = states
    outputs: dict[int, Tensor] = {}
    order = range(len(x))
    for place in reversed(order) if reverse else order:
        after = step(x[place], hidden, cell)
        on = torch.ones(x.shape[1], 1, dtype=torch.bool) if lengths is None else (place < lengths)[:, None]
        hidden, cell = torch.where(on, after[0], hidden), torch.where(on, after[1], cell)
        outputs[place] = torch.where(on, after[0], torch.zeros_like(hidden))
    return torch.stack([outputs[place] for place in order]), hidden.clone(), cell.clone()


def _step(mode: str, weights: list[Tensor], x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """The formulas of `nn.LSTM`, `nn.GRU` and `nn.RNN`."""
    import torch
    from torch.nn import functional

    biases: list[Any] = [*weights[2:]] or [None, None]
    of_input = functional.linear(x, weights[0], biases[0])
    of_hidden = functional.linear(hidden, weights[1], biases[1])
    if mode == "LSTM":
        i, f, g, o = (of_input + of_hidden).chunk(4, dim=-1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell
    if mode == "GRU":
        (r, z, n), (hr, hz, hn) = of_input.chunk(3, dim=-1), of_hidden.chunk(3, dim=-1)
        r, z = (r + hr).sigmoid(), (z + hz).sigmoid()
        return (1 - z) * (n + r * hn).tanh() + z * hidden, cell
    total = of_input + of_hidden
    return (torch.relu(total) if mode == "RNN_RELU" else torch.tanh(total)), cell


# ---------------------------------------------------------------------------------------- what ONNX gets


def _onnx_recurrent(x: Any, lengths: Any, states: Any, weights: Any, mode: str, reverse: bool) -> tuple[Any, Any, Any]:
    """ONNX's operator with the gates still in torch's order."""
    from onnxscript import opset23

    op: Any = opset23
    first, second = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
    inputs = [
        x,
        op.Unsqueeze(weights[0], first),
        op.Unsqueeze(weights[1], first),
        op.Unsqueeze(op.Concat(*weights[2:], axis=0), first) if len(weights) > 2 else None,
        None if lengths is None else op.Cast(lengths, to=6),  # int32
        *(op.Unsqueeze(state, first) for state in states[: 2 if mode == "LSTM" else 1]),
    ]
    way, width = "reverse" if reverse else "forward", weights[1].shape[1]
    if mode == "LSTM":
        y, hidden, cell = op.LSTM(*inputs, direction=way, hidden_size=width)
        return op.Squeeze(y, second), op.Squeeze(hidden, first), op.Squeeze(cell, first)
    if mode == "GRU":
        y, hidden = op.GRU(*inputs, direction=way, hidden_size=width, linear_before_reset=1)
    else:
        activation = "Relu" if mode == "RNN_RELU" else "Tanh"
        y, hidden = op.RNN(*inputs, direction=way, hidden_size=width, activations=[activation])
    hidden = op.Squeeze(hidden, first)
    return op.Squeeze(y, second), hidden, op.Identity(hidden)
