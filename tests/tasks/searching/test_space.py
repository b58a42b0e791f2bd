from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import qzoo
from qzoo.errors import ArgumentError
from qzoo.quant.ranges import quantizers
from qzoo.schema.resolution.call import with_call
from qzoo.tasks.measuring.running import measuring
from qzoo.tasks.searching.space import Space

Spaces = Callable[..., Space]
LAYERS = [
    "conv1", "layer1.conv1", "layer1.conv2", "layer2.conv1", "layer2.conv2", "layer3.conv1", "layer3.conv2", "avgpool",
    "linear",
]  # fmt: skip


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_every_layer_of_an_int8_network_is_a_group(space: Spaces) -> None:
    found = space("int8", "w8a8", "w4a8")
    assert [group.name for group in found.groups] == LAYERS
    assert found.unchanged == {name: ["w8a8", "w4a8"] if name == "avgpool" else ["w8a8"] for name in LAYERS}
    assert found.changes == {"w8a8": {}, "w4a8": {"weight": {"bits": 4, "calibrator": "mse"}}}


def test_what_reads_one_tensor_or_is_one_addition_moves_together(space: Spaces) -> None:
    groups = {group.name: group.paths for group in space({"scheme": "int8_ort"}, "int8", "float").groups}
    # layer1 reads what its own skip branch is; its addition has two operands.
    assert groups["layer1.conv1"] == [
        "layer1.conv1.input_quantizer", "layer1.conv1.weight_quantizer", "layer1.residual_quantizer",
        "layer1.residual_main_quantizer",
    ]  # fmt: skip


def test_a_mixture_is_the_model_that_its_rules_make(space: Spaces, images: Tensor) -> None:
    found = space({"scheme": "int8_ort"}, "int8", "w4a8", "int8_mse", "float")
    names = list(found.changes)
    for step in range(3):
        choice = {group.name: names[(place + step) % 4] for place, group in enumerate(found.groups)}
        made = found.solved.model(with_call(found.variant, rules=found.rules(choice))).eval()
        with measuring(found.mixture.model):
            found.mixture.choose_all(choice)
            assert torch.equal(found.mixture.model(images), made(images))
        on = {path for path, one in quantizers(made).items() if one.state == "quantizing"}
        in_float = {path for group in found.groups if choice[group.name] == "float" for path in group.paths}
        assert on
        assert not on & in_float


def test_all_in_float_is_the_float_model(space: Spaces, images: Tensor) -> None:
    found = space("int8", "w8a8", "w2a8", keep=("conv1",))
    float_model = qzoo.create("resnet8_digits", pretrained=True)
    with measuring(found.mixture.model):
        found.mixture.leave_in_float()
        assert torch.equal(found.mixture.model(images), float_model(images))


def test_rounded_weights_come_with_their_candidate(space: Spaces, images: Tensor) -> None:
    found = space({"scheme": "w4a8", "optimize": {"round": "gptq"}}, "w4a8", "float")
    with measuring(found.mixture.model):
        found.mixture.choose_all(dict.fromkeys((group.name for group in found.groups), "w4a8"))
        rounded = found.mixture.model(images)
        assert torch.equal(rounded, found.mixture.candidates["w4a8"].eval()(images))
        found.mixture.leave_in_float()
        assert torch.equal(found.mixture.model(images), qzoo.create("resnet8_digits", pretrained=True)(images))
    plain = space("w4a8", "w4a8", "float").mixture.candidates["w4a8"].eval()
    assert not torch.equal(rounded, plain(images))


def test_candidates_that_do_the_same_to_a_group_are_run_once(space: Spaces) -> None:
    found = space("int8", "w8a8", "w4a8", "w2a8")
    pool = next(group for group in found.groups if group.name == "avgpool")
    assert found.mixture.different(pool) == {"w8a8": "w8a8", "w4a8": "w8a8", "w2a8": "w8a8"}
    assert found.mixture.different(found.groups[0]) == {"w8a8": "w8a8", "w4a8": "w4a8", "w2a8": "w2a8"}


def test_kept_layers_are_in_no_group(space: Spaces) -> None:
    found = space("int8", "w4a8", "w2a8", keep=("conv1", "lin*"))
    assert [group.name for group in found.groups] == [name for name in LAYERS if name not in ("conv1", "linear")]
    with pytest.raises(ArgumentError, match=r"keep: no layer is called 'conf1'\. Did you mean 'conv1'\?"):
        space("int8", "w4a8", "w2a8", keep=("conf1",))


def test_costs_by_hand(space: Spaces) -> None:
    costs = space("w4a8", "w8a8", "w2a8", "float", keep=("linear",)).costs
    # Weights: 16*9, 16*16*9 twice, 32*16*9, 32*32*9, 64*32*9, 64*64*9, 64*10; the rest: batch norms and a bias.
    weights = [144, 2304, 2304, 4608, 9216, 18432, 36864, 640]
    norms, total = 2 * (3 * 16 + 2 * 32 + 2 * 64), sum(weights)
    values = total + norms + 10
    assert costs.by_cost["bits"]["layer3.conv1"] == pytest.approx({
        "w8a8": 18432 * 8 / total, "w2a8": 18432 * 2 / total, "float": 18432 * 32 / total,
    })  # fmt: skip
    assert costs.by_cost["size"]["conv1"] == pytest.approx({
        "w8a8": (144 * 8 + 16 * 32) / (32 * values), "w2a8": (144 * 2 + 16 * 32) / (32 * values),
        "float": 144 / values,
    })  # fmt: skip
    assert costs.rest["bits"] == pytest.approx(640 * 4 / total), "the classifier stays as w4a8 has it"
    assert costs.rest["size"] == pytest.approx((640 * 4 + 10 * 32 + 32 * (norms + 10)) / (32 * values))
    # 8x8 places, then 4x4 and 2x2 behind strides; the classifier is on integers.
    macs = [144 * 64, 2304 * 64, 2304 * 64, 4608 * 16, 9216 * 16, 18432 * 4, 36864 * 4, 640]
    assert costs.by_cost["macs_float"]["layer1.conv2"] == pytest.approx(
        {"w8a8": 0, "w2a8": 0, "float": macs[2] / sum(macs)}
    )
    assert costs.rest["macs_float"] == 0


def test_weights_alone_are_no_integer_work(space: Spaces) -> None:
    costs = space({"from": "int8", "input": False}, "w4", "w2").costs.by_cost["macs_float"]
    assert {name: sum(of_group[name] for of_group in costs.values()) for name in ("w4", "w2")} == pytest.approx(
        {"w4": 1, "w2": 1}
    )


def test_a_candidate_says_how_quantizers_are_not_where(space: Spaces) -> None:
    found = space({"from": "int8", "input": False}, "w8a8", "w4a4")
    assert all(path.endswith("weight_quantizer") for group in found.groups[:2] for path in group.paths)
    made = found.solved.model(with_call(found.variant, rules=found.rules(dict.fromkeys(LAYERS, "w4a4"))))
    assert quantizers(made).keys() == {path for group in found.groups for path in group.paths}
