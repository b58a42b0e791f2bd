"""Checkpoints of unknown origin: nothing in them is run, nothing impossible is taken over, and they take no time."""

from __future__ import annotations

import copy
import os
import pickle
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import qzoo
from qzoo.compat import export_state_dict, import_checkpoint
from qzoo.compat.checkpoint import PLACES, has_checksum, read_state_dict
from qzoo.compat.fitting import fit_of, load_state_dict
from qzoo.errors import QzooError, WeightsError
from qzoo.weights.artifact import content_digest

NAME = "resnet8_digits_int8"
State = dict[str, Any]
Mutation = Callable[[State, random.Random], None]
NO_FINITE = (torch.nan, torch.inf, -torch.inf)


@pytest.fixture(scope="module")
def state() -> State:
    return dict(export_state_dict(qzoo.create(NAME, pretrained=True)))


@pytest.fixture
def model() -> torch.nn.Module:
    return qzoo.create(NAME)


def written(path: Path, content: Any, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


class Runs:
    """Pickled, it makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def of(part: str, state: State, dice: random.Random) -> str:
    return dice.choice([key for key in state if key.endswith(part)])


def value(part: str, *values: float, dtype: torch.dtype | None = None) -> Mutation:
    """One value of one tensor, whose key ends so, becomes one of these."""

    def mutate(state: State, dice: random.Random) -> None:
        key = of(part, state, dice)
        state[key] = state[key].to(dtype or state[key].dtype).clone()
        state[key].view(-1)[dice.randrange(state[key].numel())] = dice.choice(values)

    return mutate


def becomes(part: str, change: Callable[[torch.Tensor], Any]) -> Mutation:
    """One tensor, whose key ends so, becomes something else."""

    def mutate(state: State, dice: random.Random) -> None:
        key = of(part, state, dice)
        state[key] = change(state[key])

    return mutate


def huge(tensor: torch.Tensor) -> torch.Tensor:
    # Some bytes that claim four terabytes.
    return torch.zeros(1).expand(10**12)


def second_spelling(state: State, dice: random.Random) -> None:
    key = of("_input_quantizer._amax", state, dice)
    state[key.replace("_input_quantizer._amax", "input_quantizer.amax")] = state[key] * 2


def clip_bounds(low: Any, high: Any) -> Mutation:
    def mutate(state: State, dice: random.Random) -> None:
        place = of("_input_quantizer._amax", state, dice).removesuffix("._amax")
        state[f"{place}.clip.clip_value_min"], state[f"{place}.clip.clip_value_max"] = low, high

    return mutate


IMPOSSIBLE: list[Mutation] = [
    value("_amax", *NO_FINITE, -1.0, -1e-30), value("_amax", 1e300, dtype=torch.float64),
    value("conv1.weight", *NO_FINITE), value("conv2.weight", 1e300, -1e300, dtype=torch.float64),
    value("running_var", *NO_FINITE, -1.0), value("running_mean", *NO_FINITE), value("num_batches_tracked", -1),
    becomes("weight", lambda x: x[:-1]), becomes("_amax", lambda x: torch.ones(3, 5)), becomes("bias", huge),
    becomes("_amax", huge), becomes("weight", lambda x: x.to_sparse()), becomes("weight", lambda x: x.to(torch.int32)),
    becomes("_amax", lambda x: x.to(torch.complex64)), becomes("bias", lambda x: "text"),
    becomes("bias", lambda x: None),
    becomes("weight", lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)), becomes("_amax", lambda x: 3),
    becomes("bias", lambda x: torch.empty(x.shape, device="meta")), becomes("num_batches_tracked", lambda x: x + 0.5),
    becomes("running_var", lambda x: x.bool()), second_spelling, clip_bounds(torch.tensor(2.0), torch.tensor(1.0)),
    clip_bounds("a", "b"), clip_bounds(torch.zeros(2), torch.ones(2)), clip_bounds(-(10**400), 10**400),
    clip_bounds(-1e300, 1e300), clip_bounds(torch.tensor(torch.nan), torch.tensor(1.0)),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:.*torch.ao.quantization", "ignore:TypedStorage")
def test_of_150_checkpoints_of_impossible_content_none_is_taken_over(
    state: State, model: torch.nn.Module, tmp_path: Path
) -> None:
    dice, before = random.Random(0), content_digest(model.state_dict())
    for turn in range(150):
        changed = copy.copy(state)
        IMPOSSIBLE[turn % len(IMPOSSIBLE)](changed, dice)
        path = written(tmp_path / "a.pth", {"state_dict": changed}, legacy=dice.random() < 0.5)
        try:
            load_state_dict(model, read_state_dict(path))
        except QzooError as error:
            assert len(str(error)) < 3000, turn  # noqa: PT017
        else:
            pytest.fail(f"turn {turn} was taken over")
    assert content_digest(model.state_dict()) == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_of_150_damaged_files_those_with_checksums_are_refused_and_no_other_ends_with_a_traceback(
    state: State, model: torch.nn.Module, tmp_path: Path
) -> None:
    dice, whole = random.Random(1), content_digest(state)
    files = [written(tmp_path / f"{legacy}.pth", state, legacy=legacy).read_bytes() for legacy in (False, True)]
    for turn in range(150):
        damaged = bytearray(files[turn % 2])
        # Half of them where the pickle lies, in which a flip does most.
        for _ in range(dice.randrange(1, 4)):
            end = len(damaged) if dice.random() < 0.5 else min(len(damaged), 6000)
            damaged[dice.randrange(end)] ^= 1 << dice.randrange(8)
        path = tmp_path / "a.pth"
        path.write_bytes(damaged[: dice.randrange(len(damaged))] if dice.random() < 0.2 else damaged)
        try:
            found = read_state_dict(path)
            load_state_dict(model, found)
        except QzooError:
            continue
        # Of a zip file only what says nothing of the tensors can have changed, such as the time of an entry.
        assert not has_checksum(path) or content_digest(found) == whole, turn


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["value", "key of a wrapper", "beside"])
def test_nothing_is_run(legacy: bool, place: str, state: State, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "made by the file")
    content = {"value": state | {"conv1.weight": runs}, "key of a wrapper": {"model": runs}, "beside": [state, runs]}
    path = written(tmp_path / "a.pth", content[place], legacy=legacy)
    with pytest.raises(WeightsError, match=r"a\.pth is damaged or no weights file \(it asks for (posix|nt)\.mkdir"):
        read_state_dict(path)
    (tmp_path / "b.pth").write_bytes(pickle.dumps(content[place]))
    with pytest.raises(WeightsError, match=r"b\.pth is damaged or no weights file"):
        read_state_dict(tmp_path / "b.pth")
    assert not runs.folder.exists()


def test_twenty_thousand_unknown_keys_take_no_time_and_a_short_message(state: State, model: torch.nn.Module) -> None:
    more = state | {f"{'x' * (number % 60)}.k{number}.{'ab'[number % 2]}": torch.zeros(1) for number in range(20_000)}
    start = time.perf_counter()
    fit = fit_of(model, more)
    with pytest.raises(WeightsError, match=r"unexpected, 20000 keys: .* and \d+ more") as caught:
        load_state_dict(model, more)
    fit_of(model, more, ["x*"])
    assert time.perf_counter() - start < 5  # it was the square of the keys: over 20 s
    assert len(fit.unexpected) == 20_000
    assert len(str(caught.value)) < 5000


def test_a_dict_that_holds_itself_or_is_nested_without_end_holds_no_state_dict(state: State, tmp_path: Path) -> None:
    ring: State = {"epoch": 1}
    ring["state_dict"] = ring["model"] = ring
    deep: State = {"net": state}
    for _ in range(50):
        deep = {"net": deep}
    wide: State = {"epoch": 1}
    for _ in range(8):
        wide = dict.fromkeys(PLACES, wide)  # 7 ** 8 ways lead to it
    for content in (ring, deep, wide):
        with pytest.raises(WeightsError, match=r"a\.pth holds no state dict, but a dict with"):
            read_state_dict(written(tmp_path / "a.pth", content))
    ring["model"] = state
    assert read_state_dict(written(tmp_path / "a.pth", ring)).keys() == state.keys()


def test_compressed_zip_files_are_refused_unread(state: State, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb/data.pkl", b"\x00" * 50_000_000)
    with pytest.raises(WeightsError, match=r"bomb\.pth is no file of torch\.save: what it holds is compressed"):
        read_state_dict(path)


@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_a_file_is_pinned_by_its_sha256_or_has_a_checksum_or_neither(state: State, tmp_path: Path) -> None:
    import hashlib

    for legacy in (False, True):
        path = written(tmp_path / "a.pth", state, legacy=legacy)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert import_checkpoint(path, NAME, tmp_path).checked is not legacy
        assert import_checkpoint(path, NAME, tmp_path, sha256=digest[:8].upper()).checked
        with pytest.raises(WeightsError, match=r"a\.pth has SHA-256 .*, expected 0{16}\.\.\."):
            import_checkpoint(path, NAME, tmp_path, sha256="0" * 64)
    with pytest.raises(WeightsError, match="'123' is no SHA-256: give 8 to 64 hexadecimal digits"):
        import_checkpoint(path, NAME, tmp_path, sha256="123")


@pytest.mark.parametrize(
    ("mutate", "said"),
    [
        (value("bn1.running_var", -1.0), r"bn1\.running_var: holds -1, and a variance is at least 0"),
        (value("conv1.weight", torch.inf), r"conv1\.weight: holds NaN or Inf"),
        (value("conv1.weight", 1e300, dtype=torch.float64), r"conv1\.weight: holds NaN or Inf"),
        (value("_amax", 1e300, dtype=torch.float64), r"_amax: is negative or infinite"),
        (value("num_batches_tracked", -1), r"num_batches_tracked: holds -1, and a count is at least 0"),
        (becomes("conv1.weight", lambda x: x.to_sparse()), r"conv1\.weight: is no dense tensor with values"),
        (becomes("conv1.weight", huge), r"conv1\.weight: has shape \[1000000000000\], the model's \[64, 32, 3, 3\]"),
        (second_spelling, r"unexpected, 1 key: .*input_quantizer\.amax"),
    ],
)
def test_says_what_is_impossible_and_where(mutate: Mutation, said: str, state: State, model: torch.nn.Module) -> None:
    changed = copy.copy(state)
    mutate(changed, random.Random(0))
    with pytest.raises(WeightsError, match=said):
        load_state_dict(model, changed)
