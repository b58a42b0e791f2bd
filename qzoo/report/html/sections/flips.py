"""The images that flipped, as pictures with both answers."""

from __future__ import annotations

from qzoo.report.html.blocks import Gallery, Section, Text
from qzoo.results.details import Details


def flip_section(details: Details) -> Section:
    """Returns the section; without blocks where flips were not looked for."""
    if not details.flipped:
        return Section("Flipped images", [])
    if not details.flips:
        return Section(
            "Flipped images", [Text("Every variant predicts what the float model predicts, on every image.")]
        )
    left_out = details.flips_left_out
    more = f" {left_out:,} more, whose answers lie closer together, are left out." if left_out else ""
    title = f"{len(details.flips):,} images of which a variant says something else than float"
    note = f"The most decisive first. Behind an answer is its margin: by how much its logit exceeds the second.{more}"
    return Section("Flipped images", [Gallery(title, details.flips, note)])
