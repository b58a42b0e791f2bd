"""The model card of a hub model: the README.md of its repository on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator

from qzoo.hub.manifest import CARD, CONFIG, FILES, MANIFEST
from qzoo.report.card_facts import CardFacts, address, formats
from qzoo.report.card_front_matter import HUB, front_matter, known_license
from qzoo.report.card_sections import exports, figures, training
from qzoo.report.markdown import code, fenced, listed, plain, table
from qzoo.schema.calibration import MADE_FROM
from qzoo.schema.datasets import dataset_named
from qzoo.schema.optimize import step_rows
from qzoo.schema.reading.sources import OWN_CODE
from qzoo.weights.kinds import MODEL


def model_card(facts: CardFacts) -> str:
    """Returns the card: the hub's metadata as YAML, then the text as Markdown.

    Args:
        facts: everything it is written from; nothing is looked up elsewhere, except whether qzoo has the recipe.
    """
    sections = (_head, _usage, figures, exports, training, _quantization, _files, _recipe, _license, _digests)
    text = "\n\n".join(paragraph for section in sections for paragraph in section(facts))
    return f"---\n{front_matter(facts)}\n---\n\n{text}\n"


def _head(facts: CardFacts) -> Iterator[str]:
    config = facts.config
    weights = f" (weights {code(config.weights)})" if config.weights else ""
    kinds = {"weights": facts.weights, "activations": facts.activations}
    how = " and ".join(f"{listed(formats(found))} {what}" for what, found in kinds.items() if found)
    yield f"# {plain(facts.manifest.name)}"
    yield f"{code(config.architecture)}{_whose(config.source)}{weights}, quantized with qzoo: {how}."
    if facts.description:
        yield plain(facts.description)


def _usage(facts: CardFacts) -> Iterator[str]:
    form = facts.config.input
    yield "## Use"
    yield f"With the Python package qzoo, {facts.manifest.qzoo} or newer:"
    yield fenced("\n".join(_example(facts)), "python")
    yield (
        f"Input: {form.channels} × {form.size} × {form.size}, pixels in 0..1 minus {_numbers(form.mean)}, divided by "
        f"{_numbers(form.std)}; the transform does it. {facts.config.num_classes:,} classes, "
        f"{facts.config.parameters:,} parameters."
    )
    if MODEL.file not in facts.manifest.files:
        origin = "a file of that name" if facts.config.source == OWN_CODE else facts.config.source
        yield (
            f"The weights are not among the files: qzoo takes the float weights from {origin}, and "
            "refuses any but those that the ranges were made for."
        )
    if facts.config.source == OWN_CODE:
        yield (
            "Neither is the class, as a hub model never brings code: its author gives it, and whoever uses the model "
            f"registers it by the name {code(facts.config.architecture)}, or says `--model FILE.py:CLASS`."
        )


def _whose(source: str) -> str:
    """Returns whose class it is, as it follows on the name."""
    return ", a class of its author's own" if source == OWN_CODE else f" of {plain(source)}"


def _example(facts: CardFacts) -> Iterator[str]:
    config, name = facts.config, address(facts)
    yield from ("import json", "from pathlib import Path", "") if config.labels else ()
    yield from ("import qzoo", "import torch")
    yield from ("from huggingface_hub import hf_hub_download",) if config.labels and facts.repo else ()
    yield from ("from PIL import Image", "")
    if config.source == OWN_CODE:
        yield f'qzoo.register_model("{config.architecture}", YOUR_CLASS)'
    yield f'model = qzoo.create("{name}", pretrained=True)'
    yield f'transform = qzoo.transform("{name}")'
    if config.labels:
        path = f'hf_hub_download("{facts.repo}", "{CONFIG}")' if facts.repo else f'"{name}/{CONFIG}"'
        yield f'labels = json.loads(Path({path}).read_text(encoding="utf-8"))["labels"]'
    yield ""
    yield f'image = transform(Image.open("image.png").convert("{"L" if config.input.channels == 1 else "RGB"}"))'
    yield from ("with torch.inference_mode():", "    probabilities = model(image[None]).softmax(dim=1)[0]")
    yield f"for value, index in zip(*probabilities.topk({min(5, config.num_classes)})):"
    yield f'    print(f"{{value:.1%}}  {"{labels[index]}" if config.labels else "class {index}"}")'


def _numbers(values: list[float]) -> str:
    """Returns what is done to each channel, once where it is the same for all.

    Example:
        >>> _numbers([0.5, 0.5]), _numbers([0.485, 0.456, 0.456])
        ('0.5', '0.485 0.456 0.456')
    """
    same = len(set(values)) == 1
    return " ".join(f"{value:g}" for value in (values[:1] if same else values))


def _quantization(facts: CardFacts) -> Iterator[str]:
    yield "## How it is quantized"
    rows = [
        [what, str(count), kind]
        for what, kinds in (("weights", facts.weights), ("activations", facts.activations))
        for kind, count in kinds.items()
    ]
    yield table(["what", ">quantizers", "format, granularity, how the range is found"], rows)
    yield _calibration(facts)
    if facts.optimize is not None:
        yield "After calibration its weights were changed, without labels and without training, in these steps:"
        yield table(["step", "how"], [list(row) for row in step_rows(facts.optimize)])
    yield (
        "Quantization is simulated: weights and activations are rounded to what the format can hold, and the layers "
        "compute on these values in floating point. The figures are those of the quantized model; its speed is not "
        f"that of integer arithmetic{', which the ONNX files are for' if facts.exports else ''}."
    )


def _calibration(facts: CardFacts) -> str:
    spec, seen = facts.calibration, facts.calibration_images
    method = f" by {facts.method}" if facts.method else ""
    before = "Before training, ranges" if facts.training else "Ranges"
    if facts.calibration_source != "images":
        made = f"{seen:,} {MADE_FROM[facts.calibration_source]}" if seen else MADE_FROM[facts.calibration_source]
        return f"{before} of activations{method}, from {made}: **no image of the dataset was seen.**"
    known = seen or (spec.images if facts.training else 0)
    images = f"{known:,} images" if known else "images whose number is not known"
    fewer = f" (the recipe asks for {spec.images:,})" if seen and seen != spec.images else ""
    augmented = ", augmented as for training" if spec.transform == "train" else ""
    text = (
        f"{before} of activations{method}, from {images}{fewer} of the {spec.split} split of "
        f"{dataset_named(facts.config.dataset).title}, drawn with seed {spec.seed}{augmented}."
    )
    return text + (
        " **These may be images that the figures are measured on (`allow_leak`): the figures are too good.**"
        if spec.allow_leak else ""
    )  # fmt: skip


def _files(facts: CardFacts) -> Iterator[str]:
    yield "## Files"
    # A card can't tell its own size.
    present = {name: facts.manifest.files[name] for name in FILES if name in facts.manifest.files and name != CARD}
    rows = [
        [f"`{name}`", _size(file.bytes), _share(file.bytes, facts.float_bytes), FILES[name].purpose]
        for name, file in present.items()
    ]
    rows.append(["the float model", _size(facts.float_bytes), "100 %", "for comparison: parameters and buffers"])
    yield table(["file", ">size", ">of float", "what for"], rows)
    yield f"`{MANIFEST}` has size and SHA-256 of each; qzoo checks them before it believes a file."


def _size(count: int) -> str:
    """Returns a size as people read it.

    Example:
        >>> _size(512), _size(3092), _size(25_600_000)
        ('512 B', '3.1 kB', '25.6 MB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def _share(count: int, whole: int) -> str:
    percent = 100 * count / whole if whole else 0
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %"


def _recipe(facts: CardFacts) -> Iterator[str]:
    yield "## Recipe"
    yield fenced(facts.recipe, "yaml")


def _license(facts: CardFacts) -> Iterator[str]:
    config, name = facts.config, known_license(facts)
    yield "## License and base"
    weights = f", weights {code(config.weights)}" if config.weights else ""
    lies = f", on the hub as [{facts.base_model}]({HUB}/{facts.base_model})" if facts.base_model else ""
    yield f"Base: {code(config.architecture)}{_whose(config.source)}{weights}{lies}."
    yield _terms("Its author" if config.source == OWN_CODE else plain(config.source), name and plain(name))


def _terms(source: str, name: str | None) -> str:
    if name is None:
        return f"License: **not known**. {source} states none for these weights; ask their authors before use."
    if source == "torchvision":
        return (
            f"License: {name}, torchvision's own. It names none for single weights; terms of the dataset may be added."
        )
    return f"License: {name}, as {source} states it for the float weights."


def _digests(facts: CardFacts) -> Iterator[str]:
    manifest = facts.manifest
    yield "## Digests"
    rows = [
        [f"recipe, version {manifest.version}, all that can move a number", f"`{manifest.recipe_sha256}`"],
        ["float weights, their content", f"`{manifest.base_sha256}`"],
    ]
    yield table(["SHA-256 of", "digest"], rows)
    yield f"Written by qzoo {manifest.qzoo} with torch {manifest.torch}."
