"""Quantized layers: torch's own, on quantized inputs and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from qzoo.compat.pytorch_quantization import nn as quant_nn
from qzoo.compat.pytorch_quantization import quant_modules
from qzoo.compat.pytorch_quantization.nn.modules import _utils
from qzoo.compat.pytorch_quantization.tensor_quant import QuantDescriptor, fake_tensor_quant
from tests.each import for_each

WEIGHTED: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Conv1d", (4, 6, 3), {"padding": 1, "padding_mode": "circular"}, (2, 4, 9)),
    ("Conv2d", (4, 6, 3), {"stride": 2, "groups": 2}, (2, 4, 9, 9)),
    ("Conv2d", (4, 6, 3), {"padding": "same", "bias": False}, (2, 4, 7, 7)),
    ("Conv3d", (4, 6, 2), {"dilation": 2, "padding": 1, "padding_mode": "reflect"}, (2, 4, 5, 5, 5)),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1}, (2, 4, 9)),
    ("ConvTranspose2d", (4, 6, 3), {"groups": 2, "dilation": 2}, (2, 4, 5, 5)),
    ("ConvTranspose3d", (4, 6, 2), {"bias": False}, (2, 4, 3, 3, 3)),
    ("Linear", (8, 5), {}, (3, 8)),
]
UNWEIGHTED: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    *((f"{kind}Pool{n}d", (2,), {}, (2, 3, *(6,) * n)) for kind in ("Max", "Avg") for n in (1, 2, 3)),
    *((f"AdaptiveAvgPool{n}d", (1,), {}, (2, 3, *(6,) * n)) for n in (1, 2, 3)),
    *((f"InstanceNorm{n}d", (3,), {"affine": True}, (2, 3, *(6,) * n)) for n in (1, 2, 3)),
]


def quantized(x: Tensor, axis: int | None = None) -> Tensor:
    spanned = [dim for dim in range(x.dim()) if dim != axis]
    amax = x.abs().max() if axis is None else x.abs().amax(spanned, keepdim=True)
    return fake_tensor_quant(x, amax, 8, False, False)


@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), WEIGHTED)
def test_weighted_layers(name: str, args: Any, kwargs: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = getattr(quant_nn, f"Quant{name}")(*args, **kwargs)
    assert getattr(quant_nn, name) is type(layer)
    assert isinstance(layer, getattr(nn, name))
    plain = getattr(nn, name)(*args, **kwargs)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(shape)
    with torch.no_grad():
        plain.weight.copy_(quantized(plain.weight, 1 if "Transpose" in name else 0))
        assert torch.equal(layer(x), plain(quantized(x)))
    layer.input_quantizer.disable()
    layer.weight_quantizer.disable()
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), plain(x))


@for_each(("name", "args", "kwargs", "shape"), UNWEIGHTED)
def test_layers_without_weights(name: str, args: Any, kwargs: Any, shape: tuple[int, ...]) -> None:
    layer, plain = getattr(quant_nn, f"Quant{name}")(*args, **kwargs), getattr(nn, name)(*args, **kwargs)
    x = torch.randn(shape)
    assert torch.equal(layer(x), plain(quantized(x)))
    assert isinstance(layer, _utils.QuantInputMixin)
    assert not isinstance(layer, _utils.QuantMixin)


def test_transposed_convolutions_take_an_output_size() -> None:
    layer = quant_nn.QuantConvTranspose2d(4, 6, 3, stride=2)
    assert layer(torch.randn(1, 4, 5, 5), output_size=[12, 12]).shape == (1, 6, 12, 12)
    layer.padding_mode = "reflect"
    with pytest.raises(ValueError, match="Only `zeros` padding mode is supported for QuantConvTranspose2d"):
        layer(torch.randn(1, 4, 5, 5))


def test_descriptors_of_one_layer_and_of_all_from_now_on() -> None:
    four = QuantDescriptor(num_bits=4)
    layer = quant_nn.QuantConv2d(3, 8, 3, bias=False, quant_desc_input=four, quant_desc_weight=QuantDescriptor())
    assert (layer.input_quantizer.num_bits, layer.weight_quantizer.axis) == (4, None)
    before = quant_nn.QuantLinear.default_quant_desc_input
    try:
        quant_nn.QuantLinear.set_default_quant_desc_input(four)
        assert quant_nn.QuantLinear(2, 2).input_quantizer.num_bits == 4
        assert quant_nn.QuantConv2d(2, 2, 1).input_quantizer.num_bits == 8
        four._num_bits = 2  # it was copied
        assert quant_nn.QuantLinear(2, 2).input_quantizer.num_bits == 4
    finally:
        quant_nn.QuantLinear.set_default_quant_desc_input(before)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: quant_nn.QuantLinear(2, 2, quant_desc_inptu=1), TypeError, "Unused keys: quant_desc_inptu. Did you"),
        (lambda: quant_nn.QuantMaxPool2d(2, quant_desc_weight=1), TypeError, "Unused keys: quant_desc_weight"),
        (lambda: quant_nn.QuantLinear(2, 2, quant_desc_input="8bit"), ValueError, "'8bit' is not an instance of Quant"),
        (
            lambda: quant_nn.QuantLinear(2, 2, quant_desc_input=QuantDescriptor(fake_quant=False)),
            ValueError,
            "Only fake quantization is supported!",
        ),
        (lambda: quant_nn.QuantConv2d.set_default_quant_desc_weight(8), ValueError, "8 is not an instance of Quant"),
        (lambda: quant_nn.QuantLinear(2, 2).init_quantizer(None, None), TypeError, "only called by __init__"),
        (lambda: quant_nn.QuantLSTM(2, 4, proj_size=2), ValueError, "proj_size is not supported"),
    ],
)
def test_mistakes(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_gradients_reach_float_weights_and_device_and_dtype_pass_through() -> None:
    layer = quant_nn.QuantLinear(4, 2, device="cpu", dtype=torch.float64)
    assert layer.weight.dtype == torch.float64
    layer = quant_nn.QuantLinear(4, 2)
    layer(torch.randn(3, 4)).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_ones_own_quantized_module() -> None:
    class Scaled(nn.Linear, _utils.QuantMixin):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args)
            self.init_quantizer(*_utils.pop_quant_desc_in_kwargs(self.__class__, **kwargs))

        def forward(self, input: Tensor) -> Tensor:
            return F.linear(self._input_quantizer(input), self._weight_quantizer(self.weight), self.bias)

    layer, x = Scaled(4, 3, quant_desc_weight=QuantDescriptor(num_bits=4)), torch.randn(2, 4)
    amax = layer.weight.abs().max()
    assert torch.equal(
        layer(x), F.linear(quantized(x), fake_tensor_quant(layer.weight, amax, 4, False, False), layer.bias)
    )


def test_converting_a_made_layer_as_scripts_do() -> None:
    """`__new__`, the float layer's attributes, then quantizers by a function that is called `__init__`."""

    def transfer(float_layer: nn.Module, quant_class: Any) -> Any:
        made = quant_class.__new__(quant_class)
        for key, value in vars(float_layer).items():
            setattr(made, key, value)

        def __init__(self: Any) -> None:
            if isinstance(self, _utils.QuantInputMixin):
                self.init_quantizer(_utils.pop_quant_desc_in_kwargs(self.__class__, input_only=True))
            else:
                self.init_quantizer(*_utils.pop_quant_desc_in_kwargs(self.__class__))
                self._input_quantizer._calibrator._torch_hist = True

        __init__(made)
        return made

    replacement = {entry.mod_name: entry.replace_mod for entry in quant_modules._DEFAULT_QUANT_MAP}
    conv, pool = nn.Conv2d(3, 4, 3), nn.AvgPool2d(2)
    quant_conv, quant_pool = transfer(conv, replacement["Conv2d"]), transfer(pool, replacement["AvgPool2d"])
    x = torch.randn(1, 3, 6, 6)
    assert torch.equal(quant_pool(x), pool(quantized(x)))
    assert quant_conv.weight is conv.weight
    assert torch.equal(quant_conv(x), F.conv2d(quantized(x), quantized(conv.weight, 0), conv.bias))


class TestClip:
    def test_numbers_tensors_and_learned_bounds(self) -> None:
        x = torch.tensor([-3.0, -0.5, 0.5, 3.0])
        for bound in (1.0, torch.tensor(1.0), torch.ones(4)):
            assert torch.equal(quant_nn.Clip(-bound, bound)(x), x.clamp(-1, 1))
        learned = quant_nn.Clip(-1.0, 1.0, learn_min=True, learn_max=True)
        assert len(list(learned.parameters())) == 2
        assert quant_nn.Clip(np.float32(-1), 1.0, learn_min=True).clip_value_min == -1
        for given in (torch.tensor(-1.0), np.ones(2)):
            with pytest.raises(ValueError, match=r"must be scalar for initializing learnable range, .* Give a num"):
                quant_nn.Clip(given, 1.0, learn_min=True)

    def test_gradients_are_those_of_pact(self) -> None:
        x = torch.tensor([-3.0, -1.0, 0.5, 1.0, 3.0], requires_grad=True)
        clip = quant_nn.Clip(-1.0, 1.0, learn_min=True, learn_max=True)
        clip(x).backward(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]))
        assert x.grad is not None
        assert x.grad.tolist() == [0, 0, 4, 0, 0]
        assert clip.clip_value_min.grad == 3  # both at the bound and below it
        assert clip.clip_value_max.grad == 24

    def test_several_bounds_cant_be_learned(self) -> None:
        x, bounds = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        with pytest.raises(ValueError, match=r"Learnable min/max can only be scalar, got size \(2,\)"):
            quant_nn.functional.clip(x, bounds, torch.tensor(1.0)).sum().backward()


LSTMS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"batch_first": True, "bias": False},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]


class TestLSTM:
    @for_each("options", LSTMS)
    @for_each("packed", [False, True])
    @for_each("given", [False, True])
    def test_with_quantizers_off_it_is_torchs(self, options: dict[str, Any], packed: bool, given: bool) -> None:
        torch.manual_seed(0)
        quant, plain = quant_nn.QuantLSTM(4, 8, **options), nn.LSTM(4, 8, **options)
        assert len(quant._input_quantizers) == quant.num_layers * (1 + quant.bidirectional)
        plain.load_state_dict(quant.state_dict())
        for module in quant.modules():
            if isinstance(module, quant_nn.TensorQuantizer):
                module.disable()
        x: Any = torch.randn(5, 3, 4)
        start = tuple(torch.randn(len(quant._input_quantizers), 3, 8) for _ in range(2)) if given else None
        if options.get("batch_first"):
            x = x.transpose(0, 1)
        if packed:
            x = pack_padded_sequence(x, [3, 5, 1], options.get("batch_first", False), enforce_sorted=False)
        ours, (h, c) = quant(x, start)
        theirs, (h_torch, c_torch) = plain(x, start)
        data = (ours.data, theirs.data) if packed else (ours, theirs)
        for one, other in (data, (h, h_torch), (c, c_torch)):
            torch.testing.assert_close(one, other)

    def test_a_step_quantizes_what_it_multiplies_together(self) -> None:
        torch.manual_seed(0)
        cell = quant_nn.QuantLSTMCell(4, 8)
        x, h, c = torch.randn(3, 4), 5 * torch.randn(3, 8), torch.randn(3, 8)
        both, weights = quantized(torch.cat([x, h], 1)), quantized(torch.cat([cell.weight_ih, cell.weight_hh], 1), 0)
        gates = F.linear(both[:, :4], weights[:, :4], cell.bias_ih) + F.linear(
            both[:, 4:], weights[:, 4:], cell.bias_hh
        )
        i, f, g, o = gates.chunk(4, 1)
        next_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h_made, c_made = cell(x, (h, c))
        torch.testing.assert_close(c_made, next_c)
        torch.testing.assert_close(h_made, torch.sigmoid(o) * torch.tanh(next_c))
        lstm = quant_nn.QuantLSTM(4, 8)
        cell.load_state_dict({key.removesuffix("_l0"): value for key, value in lstm.state_dict().items()})
        torch.testing.assert_close(lstm(x[None])[0][0], cell(x)[0])

    def test_dropout_between_layers_and_training(self) -> None:
        lstm = quant_nn.QuantLSTM(4, 8, num_layers=2, dropout=0.5)
        x = torch.randn(5, 3, 4)
        assert not torch.equal(lstm(x)[0], lstm(x)[0])
        lstm(x)[0].sum().backward()
        assert all(parameter.grad is not None for parameter in lstm.parameters())
        lstm.eval()
        assert torch.equal(lstm(x)[0], lstm(x)[0])

    def test_other_dimensions_are_refused(self) -> None:
        with pytest.raises(RuntimeError, match="input must have 3 dimensions, got 2"):
            quant_nn.QuantLSTM(4, 8)(torch.randn(5, 4))
        with pytest.raises(RuntimeError, match="Expected hidden"):
            quant_nn.QuantLSTM(4, 8)(torch.randn(5, 3, 4), (torch.zeros(1, 2, 8), torch.zeros(1, 2, 8)))
