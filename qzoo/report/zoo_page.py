"""The page that lists every figure of the zoo with its source: `python -m qzoo.report.zoo_page > docs/zoo.md`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.recipe import Claim
from qzoo.schema.resolution.resolve import resolve

HEADER = """# The zoo

```bash
qzoo list                                                                    # a line for each base
qzoo list --dataset cifar10 --min-top1 91 --max-size 0.3 --sort size         # a line for each variant that fits
qzoo list --target tensorrt --json models.json                               # everything that is known, as JSON
qzoo zoo --html zoo.html                                                     # a page to browse
```

[![The page: accuracy against size, a panel for each dataset](zoo-page.png)](zoo-page.png)

`qzoo zoo` writes one file that needs no network: every model in a table to sort and filter, accuracy against size,
multiply-accumulates or latency, and behind each point and name its recipe, where its figures come from, and the
commands that rerun them. In Python, `qzoo.zoo_table(...)` returns the same as rows.

- **top-1** is what was *measured*, where a receipt of the recipe's present state lies beside it or on this machine;
  else what was *published*, or measured by an earlier run of our own that the recipe states (both marked `*`); else
  what was measured on a part of the images (`~`), which `--min-top1` and `--sort top1` leave aside. **drop** is
  points below the base, of one measurement or of one source, never of two.
- **bits** are those of a weight of a layer, on average; in float it has 32.
- **MB** is what the weights come to when they are packed: 4 bytes for each parameter and buffer, less 4 for each
  quantized weight, plus its bits / 8, plus 4 bytes for each scale of a weight and 1 for each zero point. A runtime's
  file may be larger: `qzoo export` tells.
- **params** and **MACs**, multiply-accumulates by weights for one image, are the base's. **int** is the share of the
  MACs whose two operands are quantized to integers, by the plan; FP8 is none. What a runtime makes of it, `qzoo
  benchmark` tells.
- **ms** is the median for one image, in the runtime that was fastest: `qzoo benchmark NAME --runtime RUNTIME`
  measures it and keeps it on this machine. Which processor and runtime it was stands below the table, and beside each
  figure of the page.
- **ranges** are of images, or made without any ([no-images.md](no-images.md)): shipped, at hand on this machine, or
  on the hub.
- `--target` leaves the variants whose formats a runtime takes as they are: CPU runtimes take no FP8, TensorRT takes
  no zero points and nothing unsigned.

Sizes and costs of shipped recipes lie in `recipes/facts.json`; those of your own, `qzoo list --facts` computes once.
What is not known is empty.

The rest of this page is generated from the recipes by `make style`; a test says when it is stale. `qzoo reproduce
BASE` reruns a table.
Figures are top-1 in percent. *own*: our own earlier run is the reference; all others were published by third parties.
"""


def zoo_page(entries: Sequence[RecipeEntry]) -> str:
    """Returns the page, Markdown: a table for each recipe, a row for each claim."""
    return "\n".join([HEADER, *("\n".join(_section(entry)) + "\n" for entry in entries)])


def _section(entry: RecipeEntry) -> Iterator[str]:
    recipe = entry.recipe
    yield f"## {entry.name}@{recipe.version}"
    yield ""
    yield f"{recipe.description} Base: {recipe.base.source}/{recipe.base.architecture}, dataset: {recipe.dataset}."
    yield ""
    yield "| variant | method | top-1 | source |"
    yield "|---|---|---:|---|"
    yield from _rows(entry.name, "float", recipe.published)
    for name in entry.variants:
        variant = resolve(entry, name)
        yield from _rows(variant.name, variant.method or "", variant.published)


def _rows(name: str, method: str, claims: Sequence[Claim]) -> Iterator[str]:
    if not claims:
        yield f"| `{name}` | {method} | | nothing published |"
    for claim in claims:
        yield f"| `{name}` | {method} | {claim} | {'*own:* ' if claim.own else ''}{claim.source} |"


if __name__ == "__main__":
    print(zoo_page(Catalog.load().entries), end="")
