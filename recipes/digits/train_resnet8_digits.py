"""Trains the float weights of resnet8_digits: `python recipes/digits/train_resnet8_digits.py`. About half a minute.

The schedule was fixed before the test split was looked at; the last epoch is what is kept.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from qzoo import architectures
from qzoo.data import open_split
from qzoo.models.architectures.weights import find_weights, transform_of

EPOCHS, BATCH, PEAK_LR, SEED = 60, 64, 0.1, 0


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the batch, each image moved by up to one pixel each way."""
    padded = F.pad(images, (1, 1, 1, 1), value=-1.0)
    moves = torch.randint(0, 3, (len(images), 2), generator=generator)
    rows = moves[:, :1] + torch.arange(8)
    columns = moves[:, 1:] + torch.arange(8)
    index = torch.arange(len(images))[:, None, None]
    return padded[index, 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


def train() -> nn.Module:
    """Returns the trained model."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    split = open_split("digits", "train")
    images = split.batch(range(len(split)), transform_of(find_weights("resnet8_digits")))
    model = architectures.create("resnet8_digits")
    optimizer = torch.optim.SGD(model.parameters(), lr=PEAK_LR, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = EPOCHS * (len(split) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(split), generator=generator)[: len(split) // BATCH * BATCH]
        for batch in order.split(BATCH):
            loss = F.cross_entropy(model(shifted(images[batch], generator)), split.labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def accuracy(model: nn.Module) -> float:
    """Returns top-1 on the held-out images, in percent."""
    split = open_split("digits", "test")
    images = split.batch(range(len(split)), transform_of(find_weights("resnet8_digits")))
    with torch.no_grad():
        return 100 * float((model(images).argmax(1) == split.labels).double().mean())


if __name__ == "__main__":
    trained = train()
    file = Path(__file__).with_name("resnet8_digits.safetensors")
    # One key: the order of several is not fixed, and the same training should give the same file.
    made_by = f"{Path(__file__).name}, {EPOCHS} epochs, seed {SEED}"
    file.write_bytes(save(trained.state_dict(), {"made by": made_by}))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB, top-1 {accuracy(trained):.2f}, SHA-256 {digest}")
