"""What a run may change of what a recipe says, and what it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from qzoo.arguments import checked_class
from qzoo.distributed import own_device
from qzoo.errors import UnsupportedError


@checked_class
@dataclass(frozen=True)
class Settings:
    """The settings that calibrating, evaluating and reproducing share.

    Fewer images than the recipe or the published protocol says make every verdict `partial`.

    Attributes:
        data: folder of the dataset, or of all datasets; default `QZOO_DATA`.
        calib_images: images to calibrate on, if not as the recipe says.
        eval_images: images to evaluate on, a seeded sample; default all.
        batch_size: images at a time, everywhere.
        device: `cpu`, `cuda`, `cuda:1`, `mps` ...
        workers: processes that decode images; default: none for images in memory, else one a core, at most 8.
    """

    data: Path | None = None
    calib_images: int | None = None
    eval_images: int | None = None
    batch_size: int | None = None
    device: str = "cpu"
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.data is not None:
            object.__setattr__(self, "data", Path(self.data))


def usable_device(name: str) -> torch.device:
    """Returns the device of a name; of several processes each gets its own GPU for `cuda`.

    Raises:
        UnsupportedError: torch knows no such device, or this machine has none, or too few for the processes.

    Example:
        >>> usable_device("cpu")
        device(type='cpu')
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UnsupportedError(f"Device '{name}' can't be used here. Usable: {', '.join(usable_devices())}.") from error
    return own_device(device)


def usable_devices() -> list[str]:
    """Returns the names of the devices that this machine has."""
    accelerators = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["cpu", *accelerators, *(["mps"] if torch.backends.mps.is_available() else [])]
