"""Every kind of artifact comes back as it was, and is refused when a single bit is not."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from qzoo.errors import WeightsError
from qzoo.weights import artifact as module
from qzoo.weights.artifact import ArtifactInfo, content_digest, read_artifact, versions, write_artifact
from qzoo.weights.kinds import HISTOGRAMS, MODEL, RANGES, RECEIPT, Kind
from tests.weights.artifact_kinds import READERS, make

TENSORS = {"a.amax": torch.tensor(1.5), "b": torch.arange(6).view(2, 3)}
INFO = ArtifactInfo(name="x_int8", version=1, recipe_sha256="a" * 64, base_sha256="b" * 64, **versions())
FILE = "x.ranges.safetensors"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    make(folder)
    return folder


@pytest.fixture
def damaged(good: Path, tmp_path: Path) -> Path:
    """A folder of which one file may be damaged."""
    shutil.copytree(good, tmp_path / "folder", ignore=shutil.ignore_patterns("artifacts"))
    return tmp_path / "folder"


@pytest.mark.parametrize("name", READERS)
def test_is_read_as_it_was_written(name: str, good: Path) -> None:
    READERS[name](good / name)


@pytest.mark.parametrize("name", READERS)
def test_two_hundred_truncations_and_flipped_bits_are_refused(name: str, damaged: Path) -> None:
    path, dice = damaged / name, random.Random(name)
    whole = path.read_bytes()
    for _ in range(100):
        path.write_bytes(whole[: dice.randrange(len(whole))])
        with pytest.raises(WeightsError, match=r"(can't be read|no qzoo model|damaged|truncated|is missing|too large)"):
            READERS[name](path)
        # Half of the bits in what is read first, where a flip does most.
        end = len(whole) if dice.random() < 0.5 else min(len(whole), 4000)
        bit = dice.randrange(8 * end)
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(WeightsError) as caught:
            READERS[name](path)
        assert path.name in str(caught.value)


@pytest.mark.parametrize("kind", [RANGES, HISTOGRAMS, RECEIPT, MODEL], ids=lambda kind: kind.name)
def test_a_file_larger_than_its_kind_can_be_is_refused_unread(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.file
    with path.open("wb") as file:
        file.truncate(kind.largest + 1)  # sparse: it takes no space
    with pytest.raises(WeightsError, match=rf"MB; a {kind.name} file has at most [\d,]+ MB"):
        read_artifact(path, kind, ArtifactInfo)


def test_a_header_is_checked_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / FILE
    write_artifact(path, RANGES, TENSORS, INFO)
    monkeypatch.setattr(module, "content_digest", lambda _: pytest.fail("tensors were read"))
    with pytest.raises(WeightsError, match=r"x\.ranges\.safetensors does not fit: b is I64\. `qzoo calibrate NAME`"):
        read_artifact(path, RANGES, ArtifactInfo, lambda header, _: f"b is {header['b'].dtype}")


def test_is_replaced_in_one_step_and_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "new" / FILE
    write_artifact(path, RANGES, TENSORS, INFO)
    write_artifact(path, RANGES, TENSORS, INFO)
    assert list(path.parent.iterdir()) == [path]
    probe = tmp_path / "probe"
    probe.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(probe.stat().st_mode)
    tensors, info = read_artifact(path, RANGES, ArtifactInfo)
    assert content_digest(tensors) == content_digest(TENSORS)
    assert info == INFO


def test_a_write_that_fails_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    path = tmp_path / FILE
    write_artifact(path, RANGES, TENSORS, INFO)
    monkeypatch.setattr(module, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_artifact(path, RANGES, {}, INFO)
    assert read_artifact(path, RANGES, ArtifactInfo)[1] == INFO
    assert list(tmp_path.iterdir()) == [path]


def forged(path: Path, info: str, **metadata: str) -> Path:
    """A file whose digest is right, whatever it says of itself."""
    digest = hashlib.sha256((content_digest(TENSORS) + info).encode()).hexdigest()
    save_file(TENSORS, path, {"format": RANGES.format, "info": info, "digest": digest} | metadata)
    return path


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"gpu": "none"}, "gpu"),
        ({"version": "one"}, "version"),
        ({"version": -1}, "version"),
        ({"recipe_sha256": "../../etc/passwd"}, "recipe_sha256"),
        ({"name": "x" * 10_000}, "name"),
        ({"name": {"a": 1}}, "name"),
    ],
)
def test_what_another_version_or_a_forger_says_is_refused(change: dict[str, Any], fields: str, tmp_path: Path) -> None:
    info = json.dumps(INFO.model_dump() | {"qzoo": "9.0"} | change)
    expected = rf"does not understand \(fields: {fields}\); it was written by qzoo 9\.0\. Use that version\."
    with pytest.raises(WeightsError, match=expected):
        read_artifact(forged(tmp_path / FILE, info), RANGES, ArtifactInfo)


@pytest.mark.parametrize("info", ["", "null", "[]", "{", "[" * 100_000, '{"name": 1e999}'])
def test_info_that_is_no_info_is_refused(info: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="what this version of qzoo does not understand"):
        read_artifact(forged(tmp_path / FILE, info), RANGES, ArtifactInfo)


@pytest.mark.parametrize("what", ["format", "version", "field", "tensor", "lone surrogate"])
def test_messages_are_short_and_show_no_control_characters(what: str, tmp_path: Path) -> None:
    long, path, content = "\x1b[31m\n\r" * 100_000, tmp_path / FILE, INFO.model_dump()
    if what == "format":
        save_file(TENSORS, path, {"format": long})
    elif what == "tensor":
        write_artifact(path, RANGES, {long: torch.ones(1)}, INFO)
    else:
        change = {"version": {"qzoo": long}, "field": {long: 1}, "lone surrogate": {"qzoo": "\ud800"}}
        forged(path, json.dumps(content | change[what]))
    with pytest.raises(WeightsError, match=r"x\.ranges\.safetensors") as caught:
        read_artifact(path, RANGES, ArtifactInfo, lambda header, _: f"{next(iter(header))} is wrong")
    message = str(caught.value).replace(str(path), "")
    assert message.isprintable()
    assert len(message) < 1000


def test_metadata_that_the_digest_does_not_cover_are_refused(tmp_path: Path) -> None:
    path = forged(tmp_path / FILE, json.dumps(INFO.model_dump()), note="more")
    with pytest.raises(WeightsError, match="is corrupt: its digest does not fit its content"):
        read_artifact(path, RANGES, ArtifactInfo)


def test_another_kind_is_named(tmp_path: Path) -> None:
    write_artifact(tmp_path / FILE, RANGES, TENSORS, INFO)
    with pytest.raises(WeightsError, match=r"its format is 'qzoo-ranges/1', expected 'qzoo-receipt/1'"):
        read_artifact(tmp_path / FILE, RECEIPT, ArtifactInfo)
    with pytest.raises(WeightsError, match=r"No model file at .*nothing\. `qzoo push` makes one"):
        read_artifact(tmp_path / "nothing", MODEL, ArtifactInfo)
