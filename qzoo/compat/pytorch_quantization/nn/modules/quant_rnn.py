"""Quantized LSTMs. A step is one product in an integer runtime, so what it multiplies is quantized together.

At each step the input and the hidden state, side by side, pass through one quantizer, and so do the two weights; cell
state and gates stay in float. The step itself is `torch.lstm_cell`.

Source: pytorch-quantization 2.2.1, `nn._functions.quant_rnn.LSTMCell`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from qzoo.compat.pytorch_quantization import tensor_quant
from qzoo.compat.pytorch_quantization.nn.modules import _utils
from qzoo.compat.pytorch_quantization.nn.modules.quantized import QuantizedWeighted
from qzoo.compat.pytorch_quantization.nn.modules.tensor_quantizer import TensorQuantizer

__all__ = ["LSTM", "LSTMCell", "QuantLSTM", "QuantLSTMCell"]

State = tuple[Tensor, Tensor]
"""Hidden state and cell state, each `(N, H)`."""


class QuantLSTMCell(QuantizedWeighted, nn.LSTMCell):
    """`nn.LSTMCell`, quantized; by default its two weights have one range for each row that both share."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW

    def forward(self, input: Tensor, hx: State | None = None) -> State:
        """Returns the next hidden and cell state; `input` is `(N, I)`."""
        zeros = input.new_zeros(len(input), self.hidden_size)
        weights = _quantized_pair(self._weight_quantizer, self.weight_ih, self.weight_hh)
        biases = (self.bias_ih, self.bias_hh) if self.bias else ()
        return _step(input, (zeros, zeros) if hx is None else hx, (*weights, *biases), self._input_quantizer)


class QuantLSTM(_utils.QuantMixin, nn.LSTM):
    """`nn.LSTM`, quantized; each layer and direction has a quantizer for its inputs and one for its weights.

    Raises:
        ValueError: `proj_size` is given, as the original has none.

    Example:
        >>> output, (hidden, cell) = QuantLSTM(4, 8, bidirectional=True)(torch.zeros(5, 2, 4))
        >>> output.shape, hidden.shape
        (torch.Size([5, 2, 16]), torch.Size([2, 2, 8]))
    """

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        mine, descriptors = _utils.split_keywords(nn.RNNBase.__init__, kwargs)
        desc_input, desc_weight = _utils.pop_quant_desc_in_kwargs(type(self), **descriptors)
        super().__init__(*args, **mine)
        if self.proj_size:
            raise ValueError(f"proj_size is not supported in pytorch-quantization, nor here: {self.proj_size}.")
        self.init_quantizer(desc_input, desc_weight, num_layers=self.num_layers * (1 + self.bidirectional))

    def forward(  # type: ignore[override]
        self, input: Tensor | PackedSequence, hx: State | None = None
    ) -> tuple[Tensor | PackedSequence, State]:
        """Returns the outputs of the last layer, and the last hidden and cell state of all, as `nn.LSTM` does."""
        if isinstance(input, PackedSequence):
            steps = list(input.data.split(input.batch_sizes.tolist()))
        elif input.dim() == 3:
            steps = list(input.unbind(1 if self.batch_first else 0))
        else:
            raise RuntimeError(f"input must have 3 dimensions, got {input.dim()}: {tuple(input.shape)}")
        steps, last = self._layers(steps, self._start(input, steps, hx))
        if not isinstance(input, PackedSequence):
            return torch.stack(steps, 1 if self.batch_first else 0), last
        packed = input._replace(data=torch.cat(steps))
        return packed, tuple(self.permute_hidden(last, input.unsorted_indices))  # type: ignore[return-value]

    def _start(self, input: Tensor | PackedSequence, steps: list[Tensor], hx: State | None) -> State:
        if hx is None:
            zeros = steps[0].new_zeros(len(self._weight_quantizers), len(steps[0]), self.hidden_size)
            return zeros, zeros
        if isinstance(input, PackedSequence):
            start = self.permute_hidden(hx, input.sorted_indices)
            self.check_forward_args(input.data, start, input.batch_sizes)
            return start
        self.check_forward_args(input, hx, None)
        return hx

    def _layers(self, steps: list[Tensor], start: State) -> tuple[list[Tensor], State]:
        ends: list[State] = []
        directions = 1 + self.bidirectional
        for layer in range(self.num_layers):
            outputs = []
            for index in range(layer * directions, (layer + 1) * directions):
                made, end = self._direction(index, steps, (start[0][index], start[1][index]))
                outputs.append(made)
                ends.append(end)
            steps = [torch.cat(parts, 1) for parts in zip(*outputs, strict=True)]
            if self.dropout and layer < self.num_layers - 1:
                steps = [F.dropout(step, self.dropout, self.training) for step in steps]
        return steps, (torch.stack([h for h, _ in ends]), torch.stack([c for _, c in ends]))

    def _direction(self, index: int, steps: list[Tensor], state: State) -> tuple[list[Tensor], State]:
        """Returns one layer's outputs in one direction, in the order of the steps, and its last state."""
        w_ih, w_hh, *biases = self.all_weights[index]
        pair = _quantized_pair(self._weight_quantizers[index], w_ih, w_hh)  # type: ignore[arg-type]
        backwards = self.bidirectional and index % 2 == 1
        outputs = []
        for step in reversed(steps) if backwards else steps:
            alive = len(step)  # sequences that are as long as that, the longest first
            one = _step(step, (state[0][:alive], state[1][:alive]), (*pair, *biases), self._input_quantizers[index])  # type: ignore[arg-type]
            state = (torch.cat([one[0], state[0][alive:]]), torch.cat([one[1], state[1][alive:]]))
            outputs.append(one[0])
        return (outputs[::-1] if backwards else outputs), state


LSTM, LSTMCell = QuantLSTM, QuantLSTMCell


def _step(input: Tensor, state: State, parameters: tuple[Tensor, ...], quantizer: TensorQuantizer) -> State:
    hidden, cell = state
    x, hidden = quantizer(torch.cat([input, hidden], 1)).split([input.shape[1], hidden.shape[1]], 1)
    return torch.lstm_cell(x, (hidden, cell), *parameters)


def _quantized_pair(quantizer: TensorQuantizer, w_ih: Tensor, w_hh: Tensor) -> tuple[Tensor, Tensor]:
    both = quantizer(torch.cat([w_ih, w_hh], 1))
    return both[:, : w_ih.shape[1]], both[:, w_ih.shape[1] :]
