"""Running a model on batches: it is left as it was, and a batch of which it makes nothing is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.errors import DataError, QzooError, UnsupportedError
from qzoo.models.heads import as_planned
from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.inputs import run, takes, tensors
from qzoo.quant.layers import WEIGHTED
from qzoo.quant.outputs import Logits, logits_of
from qzoo.quant.ranges import quantizers
from qzoo.runtimes.runtime import Session
from qzoo.tasks.inputs.batches import FORMS, Batch, described
from qzoo.training.loss import LabelError, check_classes


class Runner:
    """Runs a model on batches; what it can't run on is said of the batch, as far as it is the batch's fault.

    Args:
        model: in the mode in which it is to run.
        call: what is called in its place, such as its compiled form; default: the model.

    Example:
        >>> Runner(nn.Linear(4, 2))(Batch(torch.ones(3, 4), None, 0)).shape
        torch.Size([3, 2])
    """

    def __init__(self, model: nn.Module, call: Callable[..., Any] | None = None) -> None:
        self.model, self.call = model, model if call is None else call
        self._worked: list[Any] = []

    def __call__(self, batch: Batch) -> Any:
        """Returns the model's output.

        Raises:
            DataError: the model does not run on a batch of this shape or type.
        """
        with self.blaming(batch):
            return run(self.call, batch.inputs)

    @contextmanager
    def blaming(self, batch: Batch) -> Iterator[None]:
        """Turns an error of torch inside the context into a `DataError`, unless such a batch went well before."""
        kind = [(tensor.dtype, tensor.shape[1:]) for tensor in tensors(batch.inputs)]
        if kind in self._worked:
            yield
            return
        try:
            with _watched_first_layer(self.model) as saw:
                yield
        except (QzooError, torch.OutOfMemoryError):
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
            raise DataError(
                f"{batch.name}, {described(batch.inputs)}: {type(self.model).__name__} does not run on it "
                f"({reason}). {_wanted(self.model, batch)}"
            ) from error
        if saw.one_image:
            raise DataError(
                f"{batch.name}, {described(batch.inputs)}, is a single image; expected {FORMS}. "
                "Put images together with torch.stack(images), or one into a batch with x.unsqueeze(0)."
            )
        self._worked.append(kind)


def checked_logits(output: Any, batch: Batch, logits: Logits = None) -> Tensor:
    """Returns the logits in the output of a model, float `(images, classes)`; see `logits_of`.

    A class whose logit is -Inf is one that is never predicted; any other logit has to be a finite number.

    Args:
        output: what the model gave.
        batch: what it was given.
        logits: which of the output they are.

    Raises:
        DataError: it is nothing of the kind, or the batch has a label for which there is no class; names the batch.
    """
    try:
        found = logits_of(output, logits)
    except (DataError, UnsupportedError) as error:
        raise DataError(f"{batch.name}: {error}") from None
    if found.dim() != 2 or not found.shape[1]:
        raise DataError(
            f"{batch.name}: the model's output has shape {tuple(found.shape)}; a classifier's is (images, classes). "
            "A function logits= makes them of the output."
        )
    if len(found) != batch.images:
        raise DataError(f"{batch.name} has {batch.images} images; the model's output has shape {tuple(found.shape)}.")
    best = found.amax(1)
    if not bool(best.isfinite().all()):
        raise DataError(
            f"{batch.name}: the model's output holds {'NaN' if bool(best.isnan().any()) else 'Inf'}. "
            "Look at the images, their transform and the weights."
        )
    if batch.labels is not None:
        check_labels(batch.name, batch.labels, found.shape[1])
    return found


def check_labels(name: str, labels: Tensor, classes: int) -> None:
    """Refuses labels for which a model has no class.

    Raises:
        DataError: names the batch.
    """
    try:
        check_classes(labels, classes)
    except LabelError as error:
        raise DataError(f"{name}: {error}") from None


def _first_layer(model: nn.Module) -> tuple[str, Any] | None:
    return next(((path, layer) for path, layer in model.named_modules() if isinstance(layer, WEIGHTED)), None)


class _Saw:
    """What the first convolution of a model saw."""

    def __init__(self, batch_dims: int) -> None:
        self.batch_dims = batch_dims
        self.one_image = False

    def look(self, layer: nn.Module, args: Any, kwargs: Any) -> None:
        x = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        self.one_image |= x is not None and x.dim() == self.batch_dims - 1


@contextmanager
def _watched_first_layer(model: nn.Module) -> Iterator[_Saw]:
    """Notices whether the first convolution gets one image where it should get a batch, which torch allows."""
    found = _first_layer(model)
    # What is compiled would be compiled anew for the hook.
    if found is None or isinstance(found[1], nn.Linear) or hasattr(model, "_orig_mod"):
        yield _Saw(0)
        return
    saw = _Saw(len(found[1].kernel_size) + 2)
    hook = found[1].register_forward_pre_hook(saw.look, with_kwargs=True)
    try:
        yield saw
    finally:
        hook.remove()


def _wanted(model: nn.Module, batch: Batch) -> str:
    if not isinstance(batch.inputs, Tensor):
        return f"Its forward takes {takes(model)}; to_inputs= says what of an item it gets."
    found = _first_layer(model)
    if found is None:
        return f"Expected {FORMS}."
    path, layer = found
    dtype = str(layer.weight.dtype).removeprefix("torch.")
    if isinstance(layer, nn.Linear):
        shape = f"(N, ..., {layer.in_features})"
    else:
        sizes = ("L",), ("H", "W"), ("D", "H", "W")
        shape = f"(N, {', '.join([str(layer.in_channels), *sizes[len(layer.kernel_size) - 1]])})"
    return f"Its first layer, {path or type(layer).__name__}, takes {dtype} {shape}."


class RuntimeModel(nn.Module):
    """An ONNX file that a runtime has loaded, called as the model that it was exported from.

    Args:
        session: of the file.
        model: it was exported from; its forward says what its arguments are called.
    """

    def __init__(self, session: Session, model: nn.Module) -> None:
        super().__init__()
        self.session, self._model = session, [model]  # in a list, it is no part of this one

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Returns the outputs of the file by name, on the CPU."""
        from qzoo.runtimes.named_inputs import named_inputs

        named = named_inputs(self._model[0], kwargs or args)
        feeds = {name: _to_numpy(tensor) for name, tensor in named.items()}
        return {name: torch.from_numpy(found) for name, found in self.session.run(feeds).items()}


def _to_numpy(tensor: Tensor) -> Any:
    plain = tensor.detach().cpu()
    return (plain.float() if plain.is_floating_point() else plain).numpy()


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Lets a model be measured: as it was planned, in evaluation mode, without gradients.

    When the context ends, in whatever way, the model has its own layers again, each module its mode, and each quantizer
    its state; and torch draws the random numbers that it would have drawn without it.

    Args:
        model: float or quantized.

    Raises:
        UnsupportedError: quantizers that the model was given are gone, see `requantize_replaced`.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        >>> with measuring(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    devices = {tensor.device for tensor in chain(model.parameters(), model.buffers()) if tensor.is_cuda}
    with (
        torch.random.fork_rng(devices), states_restored(model), as_planned(model), evaluation_mode(model),
        torch.inference_mode(False), torch.no_grad(),
    ):  # fmt: skip
        yield


@contextmanager
def states_restored(model: nn.Module) -> Iterator[None]:
    """Gives every quantizer of the model its state back when the context ends."""
    states = {quantizer: quantizer.state for quantizer in quantizers(model).values()}
    try:
        yield
    finally:
        for quantizer, state in states.items():
            quantizer.state = state
