"""Random networks, several in one file: each integer of each quantizer within a step of the fake-quantized model's.

An export costs seconds before its first operator, so that networks are quantized and calibrated each on its own, and
exported together.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import qzoo
from benchmarks.coverage.whole import layer_by_layer
from tests.natural_images import natural_images
from tests.random_networks.differences import differences
from tests.random_networks.network import SIZE, random_network

SCHEMES = ("int8", "int8", "int8_vit", "int8_vit", "int8_ort", "w4a8", "w8a4")
RESIDUALS = (None, None, "skip", "both")
ROLES = ("input", "weight")
SYMMETRIC = (True, True, False, "auto")
CALIBRATION, COMPARED = natural_images(16, SIZE, 1), natural_images(2, SIZE, 2)


@dataclass
class Fault:
    """What is wrong with a network.

    Attributes:
        seed: of the network.
        where: the stage, or the runtime and the first wrong quantizer.
        what: the error, or the steps that it is off by.
        network: the structure.
    """

    seed: int
    where: str
    what: str
    network: nn.Module

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.where}: {self.what}\n{self.network}"


class Together(nn.Module):
    """Networks beside each other: of one batch, the logits of all, `(N, classes, networks)`, each at most 1."""

    def __init__(self, networks: dict[int, nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({f"seed{seed}": network for seed, network in networks.items()})
        with torch.no_grad():
            largest = [float(network(COMPARED).abs().max()) for network in networks.values()]
        self.register_buffer("largest", torch.tensor(largest))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([network(x) for network in self.networks.values()], -1) / self.largest


def calibrated(seed: int) -> nn.Module:
    """Returns a random network, quantized by a scheme and zero points that the seed decides, and calibrated.

    Raises:
        AssertionError: with quantizers off it is not the float network bit for bit.
    """
    chance, (network, example) = random.Random(f"scheme {seed}"), random_network(seed)
    scheme, residual = chance.choice(SCHEMES), chance.choice(RESIDUALS)
    # Chances come in order, so that what is asked last changes none of those before.
    rules = [{"match": {"type": "weighted"}, **{role: {"symmetric": chance.choice(SYMMETRIC)} for role in ROLES}}]
    made = qzoo.quantize(network, scheme, residual=residual, example=example, rules=rules)
    with torch.no_grad(), layer_by_layer():
        assert torch.equal(network(example), made(example)), "differs from float, quantizers off"
    return qzoo.calibrate(made, [CALIBRATION])


def faults(seeds: Sequence[int], runtime: str, *, dynamic: bool = True) -> list[Fault]:
    """Returns what is wrong with the networks of some seeds, in a file for a runtime.

    Args:
        seeds: of networks that are exported together.
        runtime: that the file is for; it is run in all that run here.
        dynamic: the file takes batches of any size; if not, of one image, in two thirds of the time.
    """
    found: list[Fault] = []
    networks: dict[int, nn.Module] = {}
    for seed in seeds:
        try:
            networks[seed] = calibrated(seed)
        except Exception as error:
            found.append(Fault(seed, "before exporting", repr(error), random_network(seed)[0]))
    return [*found, *_exported(networks, runtime, dynamic)] if networks else found


def _exported(networks: dict[int, nn.Module], runtime: str, dynamic: bool) -> Iterator[Fault]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "networks.onnx"
        try:
            qzoo.export(Together(networks), file, runtime, example=COMPARED[:1], dynamic="batch" if dynamic else "none")
        except Exception as error:
            if len(networks) == 1:
                ((seed, network),) = networks.items()
                yield Fault(seed, f"exporting for {runtime}", repr(error), network)
            else:  # which of them it is
                for seed, network in networks.items():
                    yield from _exported({seed: network}, runtime, dynamic)
            return
        yield from _compared(networks, file, runtime, COMPARED if dynamic else COMPARED[:1])


def _compared(networks: dict[int, nn.Module], file: Path, runtime: str, x: Tensor) -> Iterator[Fault]:
    for way, names in differences(Together(networks), file, runtime, x).items():
        for seed, network in networks.items():
            own = {name: steps for name, steps in names.items() if name.startswith(f"networks.seed{seed}.")}
            if own:
                first, steps = next(iter(own.items()))
                yield Fault(seed, f"{way}, {first}", f"{steps} steps, and {len(own) - 1} more", network)
