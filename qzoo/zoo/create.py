"""The composition root: from a name to a model."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from qzoo.arguments import checked, checked_names
from qzoo.errors import ArgumentError, UnknownNameError
from qzoo.models.bases import base_transform, create_base
from qzoo.models.quantize import quantize_in_place
from qzoo.models.select_layers import refuse_lazy
from qzoo.models.survey import survey_of_base
from qzoo.quant.derived import copy_model
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.reading.sources import LIBRARIES, RESIDUAL_VARIANT, LibraryModel, is_library_name
from qzoo.schema.recipe import Recipe
from qzoo.schema.resolution.call import Calibration, with_call
from qzoo.schema.resolution.resolve import ResolvedVariant, resolve_scheme
from qzoo.schema.rule import Rule
from qzoo.zoo.data_free import create_with_ranges, refuse_data_free
from qzoo.zoo.name_lookup import find, is_at_hand, placing
from qzoo.zoo.pretrained import check_hub_model, create_pretrained, warn_of_unpinned
from qzoo.zoo.zoo_model import ZooModel


@checked_names
def create(
    name: str | Path | Recipe, pretrained: bool | str = False, *, variant: str | None = None, scheme: str | None = None,
    residual: str | dict[str, Any] | None = None, quantize: bool = False, **keywords: Any,
) -> nn.Module:  # fmt: skip
    """Returns a model of the zoo, in evaluation mode.

    Args:
        name: a variant (`resnet50_int8`), a base (`resnet50`: the float model), a recipe file (`my.yaml`,
            `my.yaml:int8`), any model of a library (`timm/resnet18`, `torchvision/resnet18`), a hub model
            (`hf-hub:owner/repo`, `hf-hub:owner/repo@revision`, or a folder that `qzoo pull` filled), or a `Recipe`.
        pretrained: True for weights and ranges; where nobody calibrated the variant, ranges are made once, without an
            image, see docs/no-images.md. `"exact"` refuses such ranges; `"float"` is the base's weights alone, to
            calibrate oneself; False random weights.
        variant: the variant of the recipe, where the name is a base, a file or a `Recipe`.
        scheme: for a library's model: how to quantize it, `int8`, `int8_ort`, `fp8` ...
        residual: `skip`, `both`, `none` or fields: quantizers on residual additions, if not as the variant says.
        quantize: for a base: its `int8_residual` variant, the manual pattern of NVIDIA's tutorial.
        keywords: passed to the base's constructor (`num_classes`, `in_chans` ...).

    Returns:
        An instance of the base's own class, with quantized layers inside.

    Raises:
        UnknownNameError: no recipe or variant has the name.
        RecipeError: the recipe is faulty, or a rule does not fit the model.
        WeightsError: weights or ranges are missing, corrupt, or do not belong together.

    Warns:
        DataFreeRangesWarning: ranges were made without images; what from, and how to make better ones.

    Example:
        >>> model = create("resnet8_digits_int8", pretrained=True)
        >>> type(model).__name__
        'DigitsResNet'
    """
    if not isinstance(pretrained, bool | str) or pretrained not in (True, False, "float", "exact"):
        raise UnknownNameError(f"pretrained={pretrained!r} means nothing here. Known: True, 'exact', 'float', False.")
    with placing(name):
        return _created(_find(name, variant, scheme, quantize), pretrained, residual, keywords)


def _created(
    zoo_model: ZooModel, pretrained: bool | str, residual: str | dict[str, Any] | None, keywords: dict[str, Any]
) -> nn.Module:
    if residual is not None and (zoo_model.variant is None or pretrained in (True, "exact")):
        raise UnknownNameError(_misplaced_residual(zoo_model, residual))
    if zoo_model.variant is None:
        return create_base(zoo_model.base, bool(pretrained), **keywords)
    if pretrained is True:
        return create_with_ranges(zoo_model, keywords)
    if pretrained == "exact":
        model = create_pretrained(zoo_model, **keywords)
        refuse_data_free(zoo_model, model)
        return model
    resolved = with_call(zoo_model.resolved, residual=residual)
    check_hub_model(zoo_model)
    if pretrained:
        warn_of_unpinned(zoo_model)
    model = create_base(resolved.base, bool(pretrained), **keywords)
    quantize_in_place(model, resolved, seen=survey_of_base(model))
    return model


@checked_names
def quantize(
    model: nn.Module, scheme: str | ResolvedVariant = "int8", *, residual: str | dict[str, Any] | None = None,
    calibrator: Calibration | None = None, skip: str | Sequence[str] = (),
    rules: Sequence[Rule | Mapping[str, Any]] = (), example: Any = None,
) -> nn.Module:  # fmt: skip
    """Returns a quantized copy of a float model, to be calibrated.

    Args:
        model: any module with convolutions or linear layers; not changed.
        scheme: the name of a scheme (`int8`, `int8_ort`, `fp8` ...) or of a variant, whose rules are taken.
        residual: `skip`, `both`, `none` or fields (`{"placement": "skip", "bits": 4}`): quantizers on residual
            additions, if the model has any and not as the scheme says.
        calibrator: how the ranges of inputs are found, if not as the scheme says: `max`, `mse`, `entropy` or
            `{"percentile": 99.99}`. `qzoo.compare` tells which does best.
        skip: globs over the names of modules, which stay in float with all that is inside: `["layer4", "*.attn"]`.
        rules: as in a recipe, `[{"match": {"name": "fc"}, "weight": {"bits": 4}}]`, or as a `SensitivityReport` gives
            them. Of all that speaks of one quantizer the last wins: scheme, calibrator, skip, rules.
        example: an input that the model takes, a tuple of several, or a dict of them by name. Residual additions and
            other operators are found by running it once; without an example, on random images of the size it is made
            for.

    Raises:
        UnknownNameError: no scheme or variant has the name.
        RuleError: a glob of `skip` or a rule matches nothing (with the nearest names), or is faulty.
        UnsupportedError: operators are to be found, and the model does not run on the example.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> model = quantize(net, "int8", calibrator="mse", skip=["2"])
        >>> type(model[0]).__name__, type(model[2]).__name__
        ('QuantLinear', 'Linear')
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"qzoo.quantize takes a float module, not {model!r}. A model of the zoo: qzoo.create(name)."
        )
    if not isinstance(scheme, str | ResolvedVariant):
        raise ArgumentError(f"qzoo.quantize takes the name of a scheme or a variant, not a {type(scheme).__name__}.")
    variant = rules_of(scheme) if isinstance(scheme, str) else scheme
    refuse_lazy(model)  # which can't even be copied
    quantized = copy_model(model)
    said = with_call(variant, residual=residual, calibrator=calibrator, skip=skip, rules=rules)
    quantize_in_place(quantized, said, example)
    return quantized


def rules_of(name: str) -> ResolvedVariant:
    """Returns the rules of a scheme or of a variant, by name."""
    catalog = Catalog.load()
    is_file = name.partition(":")[0].endswith((".yaml", ".yml"))
    if name in catalog.schemes or not (is_file or is_library_name(name) or catalog.knows(name)):
        return resolve_scheme(name)
    found = ZooModel(*catalog.find(name))
    if found.variant is None:
        raise UnknownNameError(f"'{name}' is a float base. Give a scheme ({', '.join(catalog.schemes)}) or a variant.")
    return found.resolved


@checked
def recipe(name: str | Path | Recipe) -> Recipe:
    """Returns the recipe that a name or a path belongs to; a recipe itself as it is.

    Example:
        >>> recipe("resnet8_digits_int8").dataset
        'digits'
    """
    # Its dicts may be written to; those that the catalogue keeps may not.
    return name if isinstance(name, Recipe) else find(name).entry.recipe.model_copy(deep=True)


@checked
def transform(name: str | Path | Recipe) -> Any:
    """Returns the evaluation transform that belongs to the base's weights.

    Example:
        >>> from PIL import Image
        >>> transform("resnet8_digits_int8")(Image.new("L", (8, 8))).shape
        torch.Size([1, 8, 8])
    """
    with placing(name):
        return base_transform(recipe(name).base)


@checked
def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Returns the full names of bases and variants.

    Args:
        pattern: a glob, `resnet*_int8`.
        pretrained: only variants that `create(..., pretrained=True)` finds, on this machine or on the hub.

    Example:
        >>> list_models("resnet8_digits_int8*")
        ['resnet8_digits_int8', 'resnet8_digits_int8_entropy', 'resnet8_digits_int8_max', 'resnet8_digits_int8_mse']
    """
    names = [name for name in Catalog.load().names() if fnmatch.fnmatch(name, pattern)]
    return [name for name in names if is_at_hand(name)] if pretrained else names


def _find(name: str | Path | Recipe, variant: str | None, scheme: str | None, quantize: bool) -> ZooModel:
    _check_words(variant, scheme, quantize)
    named = ZooModel(RecipeEntry.from_recipe(name, "recipe")) if isinstance(name, Recipe) else find(name)
    entry = named.entry
    requested = {"variant": variant, "scheme": scheme, "quantize": RESIDUAL_VARIANT if quantize else None}
    given = [f"{word}={True if word == 'quantize' else said!r}" for word, said in requested.items() if said]
    if named.variant and given:
        raise UnknownNameError(f"'{name}' is a variant already; {given[0]} goes with its base, '{entry.name}'.")
    if len(given) > 1:
        raise UnknownNameError(f"{' and '.join(given)} both name a variant of '{entry.name}'. Give one.")
    if scheme and not isinstance(entry.source, LibraryModel):
        raise UnknownNameError(
            f"scheme={scheme!r} goes with a library's model{_library_name(entry.recipe)}. "
            f"The variants of {entry.name}: {', '.join(entry.variants)}."
        )
    if quantize:
        entry = entry.with_residual_variant()
    return ZooModel(entry, named.variant or next((one for one in requested.values() if one), None))


def _check_words(variant: Any, scheme: Any, quantize: Any) -> None:
    for word, given in (("variant", variant), ("scheme", scheme)):
        if given is not None and not isinstance(given, str):
            raise UnknownNameError(f"{word}={given!r} is no name; give one, such as {word}='int8'.")
    if not isinstance(quantize, bool):
        raise UnknownNameError(f"quantize={quantize!r} is neither True nor False. To choose one: variant={quantize!r}.")


def _library_name(recipe: Recipe) -> str:
    base = recipe.base
    return f", {base.source}/{base.architecture}" if base.source in LIBRARIES else ""


def _misplaced_residual(zoo_model: ZooModel, residual: Any) -> str:
    if zoo_model.variant is None:
        return f"residual={residual!r} goes with a variant or a scheme, and '{zoo_model.name}' is a float base."
    return (
        f"residual={residual!r} makes another variant of {zoo_model.entry.name}, for which there are no ranges: create "
        "it with pretrained='float' and calibrate it, or write it into a recipe: "
        f"{{from: {zoo_model.variant}, residual: ...}}."
    )
