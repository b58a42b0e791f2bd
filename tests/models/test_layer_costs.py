import torch
import torchvision
from torch import nn

from qzoo.models.bases import meta_model
from qzoo.models.layer_costs import LayerCost, layer_costs
from qzoo.models.survey import survey
from qzoo.schema.recipe import Base


def test_resnet18_counts_as_published() -> None:
    base = Base(source="torchvision", architecture="resnet18", weights="IMAGENET1K_V1")
    model = meta_model(base)
    costs = layer_costs(model, survey(model))
    # torchvision's metadata of the weights: 1.814 GFLOPS, where one is a multiply-accumulate; 11,689,512 parameters,
    # of which 9,600 are batch norm's and 1,000 the classifier's bias.
    assert round(sum(one.macs for one in costs.values()) / 1e9, 3) == 1.814
    assert torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["_ops"] == 1.814
    assert sum(one.weights for one in costs.values()) == 11_689_512 - 9_600 - 1_000
    assert costs["conv1"] == LayerCost(3 * 64 * 49, 3 * 64 * 49 * 112 * 112)


def test_a_shared_weight_counts_once_and_a_grouped_one_by_its_own_values() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=4, padding=1), nn.Conv2d(8, 8, 3, groups=4, padding=1))
    model[1].weight = model[0].weight
    costs = layer_costs(model, survey(model, torch.zeros(1, 8, 5, 5)))
    assert [one.weights for one in costs.values()] == [8 * 2 * 9, 0]
    assert sum(one.macs for one in costs.values()) == 2 * 8 * 2 * 9 * 25


def test_attention_counts_the_weight_that_nobody_calls() -> None:
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    costs = layer_costs(model, survey(model, torch.zeros(1, 5, 16)))
    assert {name: one.macs for name, one in costs.items()} == {
        "self_attn.in_proj": 5 * 48 * 16, "self_attn.out_proj": 5 * 16 * 16, "linear1": 5 * 32 * 16,
        "linear2": 5 * 16 * 32,
    }  # fmt: skip
