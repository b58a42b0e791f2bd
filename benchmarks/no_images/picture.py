"""`python -m benchmarks.no_images.picture`: docs/no-images.png, synthetic images above, distilled ones below."""

from __future__ import annotations

import torch

from benchmarks.document import DOCUMENTS
from qzoo.cli.terminal.progress_bar import bar
from qzoo.data_free.distill import distilled_images
from qzoo.data_free.natural_images import natural_images
from qzoo.data_free.picture import write_grid
from qzoo.models.bases import create_base, input_format
from qzoo.zoo.name_lookup import find

BASE, COLUMNS = "tf_efficientnet_lite0", 8


def main() -> None:
    """Draws both."""
    base = find(BASE).base
    form = input_format(base)
    distilled = distilled_images(create_base(base, pretrained=True), COLUMNS, form, progress=bar)
    write_grid(DOCUMENTS / "no-images.png", torch.cat([natural_images(2 * COLUMNS, form.size), distilled]), COLUMNS)


if __name__ == "__main__":
    main()
