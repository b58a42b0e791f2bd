"""`reconstruct` and `round: adaround`: a model is learned unit by unit, each behind those that are done.

In place: afterwards the float weight of each learned layer holds values of its grid, which its quantizer returns as
they are, and the learned ranges are in the quantizers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from qzoo.errors import ArgumentError, CalibrationError
from qzoo.models.shared_quantizers import shared_quantizers
from qzoo.optimization.reconstruction.learn_unit import How, learn_unit, output_error
from qzoo.optimization.reconstruction.unit_results import UnitFiles, UnitResult, digest_of, held, put
from qzoo.optimization.units.find import Kind, Unit, find_units
from qzoo.optimization.units.inputs import UnitInputs, UnitWalk
from qzoo.progress import Progress, silent
from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.inputs import batch_size, with_images
from qzoo.quant.ranges import require_calibrated
from qzoo.results.optimization import Change
from qzoo.schema.optimize import Reconstruct, Round
from qzoo.training.interrupts import Interrupted, Interrupts, noticing_interrupts


def reconstruct(
    model: nn.Module, float_model: nn.Module, spec: Reconstruct, batches: Iterable[Any], *, seed: int = 0,
    folder: Path | None = None, key: str = "", progress: Progress = silent,
    unrounded: Mapping[str, Tensor] | None = None,
) -> list[Change]:  # fmt: skip
    """Learns the rounding of weights and the ranges of activations, unit by unit, in place.

    It is the same to the bit for the same seed and number of threads, whether it was interrupted or not. In memory are
    at most two batches on their way through the models, and what learning one unit takes; see `unit_inputs`.

    Args:
        model: quantized and calibrated.
        float_model: the model before it was quantized, with modules of the same names.
        spec: what is learned, and how.
        batches: inputs of the models; gone through several times for each unit.
        seed: of the order of images and of what is dropped.
        folder: where the result of each unit is kept, and found again after an interruption.
        key: what else the results depend on: the digest of the images, say.
        progress: shown the images of all steps.
        unrounded: where another step has rounded the weights: as they were before it, by the path of their quantizer.
            A unit keeps what that step made of it if learning makes it no better.

    Returns:
        For each unit the error of its output, relative to that of the float model: with nearest rounding and the ranges
        of before, and as it is now.

    Raises:
        NotCalibratedError: a quantizer has no range.
        CalibrationError: there are no images.
        ArgumentError: the float model lacks a module.
        Interrupted: somebody pressed Ctrl-C; the units that are done are in the model, and in the folder.

    Source: AdaRound (arXiv 2004.10568), BRECQ (arXiv 2102.05426), QDrop (arXiv 2203.05740).
    """
    how = How(spec, spec.drop, spec.range_lr if spec.learn_ranges else None, unrounded or {})
    files = UnitFiles(folder, digest_of(model, float_model, spec, seed, key))
    return _learned(_Job(model, float_model, how, batches, seed, files, spec.targets == "own"), spec.unit, progress)


def adaround(
    model: nn.Module, float_model: nn.Module, spec: Round, batches: Iterable[Any], *, seed: int = 0,
    folder: Path | None = None, key: str = "", progress: Progress = silent,
) -> list[Change]:  # fmt: skip
    """Learns the rounding of weights layer by layer, in place; ranges stay as they are.

    What each layer is given is that of the quantized model; what it is to give, that of the float model.

    Args:
        model: as for `reconstruct`.
        float_model: as for `reconstruct`.
        spec: how it is learned.
        batches: as for `reconstruct`.
        seed: of the order of images.
        folder: as for `reconstruct`.
        key: as for `reconstruct`.
        progress: shown the images of all steps.

    Returns:
        As `reconstruct`, for each layer.

    Raises:
        NotCalibratedError: a quantizer has no range.
        CalibrationError: there are no images.
        Interrupted: as for `reconstruct`.

    Source: M. Nagel et al. 2020 (arXiv 2004.10568), with the asymmetric reconstruction of its section 3.3.
    """
    files = UnitFiles(folder, digest_of(model, float_model, spec, seed, key))
    return _learned(_Job(model, float_model, How(spec), batches, seed, files), "layer", progress)


@dataclass(frozen=True)
class _Job:
    model: nn.Module
    float_model: nn.Module
    how: How
    batches: Iterable[Any]
    seed: int
    files: UnitFiles
    own_targets: bool = False


def _learned(job: _Job, kind: Kind, progress: Progress) -> list[Change]:
    require_calibrated(job.model, "learn how to round its weights")
    images = sum(batch_size(batch) for batch in job.batches)
    if not images:
        raise CalibrationError("Can't learn how to round weights: there are no images. Give some, or round to nearest.")
    example = with_images(next(iter(job.batches)), 2)
    units = find_units(job.model, job.float_model, example, kind)
    _require_same_modules(units, job.float_model)
    shared = shared_quantizers(job.model, example) if job.how.range_lr is not None else []
    with (
        evaluation_mode(job.model), evaluation_mode(job.float_model), _frozen(job.model),
        noticing_interrupts() as interrupts,
        closing(_steps(job, units, progress, interrupts)) as steps,
        closing(UnitWalk(job.model, job.float_model, job.batches, images, own_targets=job.own_targets)) as walk,
    ):  # fmt: skip
        changes = []
        for index, unit in enumerate(_learning_once(units, shared)):
            changes.append(_done(job, index, unit, walk, steps))
            _share(job.model, unit, shared)
        next(steps, None)  # so that whoever shows the progress ends it
    return changes


def _require_same_modules(units: list[Unit], float_model: nn.Module) -> None:
    names = {name for name, _ in float_model.named_modules()}
    missing = [path for unit in units for path in unit.paths if path not in names]
    if missing:
        raise ArgumentError(
            f"The float model has no module {missing[0]!r}, which the quantized model has: what a unit is to give is "
            "taken from there. Give the model that was quantized, as it was before."
        )


def _learning_once(units: list[Unit], shared: list[list[str]]) -> list[Unit]:
    """Returns units of which each leaves ranges alone that an earlier one shares and has learned."""
    group = {path: paths[0] for paths in shared for path in paths}
    seen: set[str] = set()
    result = []
    for unit in units:
        own: dict[str, list[str]] = {}
        for path in (path for path, one in unit.activations.items() if one.grid.fp8 is None):
            own.setdefault(group.get(path, path), []).append(path)
        result.append(replace(unit, ranges=tuple(tuple(paths) for name, paths in own.items() if name not in seen)))
        seen |= own.keys()
    return result


def _share(model: nn.Module, unit: Unit, shared: list[list[str]]) -> None:
    """Gives a range that a unit learned, and its zero point, to all quantizers of that tensor, in place."""
    learned = {path for paths in unit.ranges for path in paths}
    for paths in shared:
        if source := next((path for path in paths if path in learned), None):
            for path in paths:
                for name, buffer in unit.activations[source].named_buffers():
                    model.get_buffer(f"{path}.{name}").copy_(buffer)


def _steps(job: _Job, units: list[Unit], progress: Progress, interrupts: Interrupts) -> Generator[Any, None, None]:
    """Yields the steps of all units that are not done yet, until somebody wants them to end."""
    left = [unit.path for index, unit in enumerate(units) if unit.learnable and not job.files.has(index)]
    each, count = job.how.spec.batch_size, job.how.spec.iterations
    items = (range(each) for _ in range(count * len(left)))
    for item in progress(items, each * count * len(left), "learning to round"):
        if interrupts.asked:
            raise Interrupted(interrupts.number)
        yield item


def _done(job: _Job, index: int, unit: Unit, walk: UnitWalk, steps: Iterator[Any]) -> Change:
    """Returns what became of a unit, which is in the model."""
    if not unit.learnable:
        return Change(path=unit.path, note=unit.note)
    # Also of units that are done: those behind them are then given the same bits as if nobody had interrupted.
    inputs = walk.at(unit)
    result = job.files.load(index, unit)
    if result is None:
        result = _learn(job, index, unit, inputs, steps)
        job.files.save(index, result)
    put(unit, result)
    return result.change


def _learn(job: _Job, index: int, unit: Unit, inputs: UnitInputs, steps: Iterator[Any]) -> UnitResult:
    batch = job.how.spec.batch_size
    before, nearest = held(unit), output_error(job.model, unit, inputs, batch)
    own = islice(steps, job.how.spec.iterations)
    try:
        weights = learn_unit(job.model, unit, inputs, job.how, _seed_of(job.seed, index), own)
        put(unit, before._replace(weights=weights, ranges=held(unit).ranges))
        after = output_error(job.model, unit, inputs, batch)
    except BaseException:
        put(unit, before)
        raise
    if after < nearest < math.inf:
        return held(unit)._replace(change=Change(path=unit.path, before=nearest, after=after, note=unit.note))
    put(unit, before)
    return before._replace(change=_unchanged(unit, nearest, after))


def _unchanged(unit: Unit, nearest: float, after: float) -> Change:
    finite = math.isfinite(nearest) and math.isfinite(after)
    why = "what was learned is no better" if finite else "its error is not finite"
    error = nearest if math.isfinite(nearest) else None
    note = "; ".join(filter(None, [unit.note, f"keeps its rounding and its ranges: {why}"]))
    return Change(path=unit.path, before=error, after=error, note=note)


def _seed_of(seed: int, index: int) -> int:
    """Returns a seed of its own for each unit, so that what is learned does not depend on how many came before."""
    return int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:7])


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        for parameter in before:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, requires in before.items():
            parameter.requires_grad_(requires)
