"""Fixtures that every test shares: where real data lies, and a quiet, offline environment."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from qzoo.schema.reading import yaml_source
from tests.loopback_files import hub_cache, served, server  # noqa: F401
from tests.loopback_hub.fixtures import (  # noqa: F401
    hub,
    hub_client,
    hub_environment,
    loopback_hub,
    no_network,
    no_network_environment,
)

settings.register_profile("qzoo", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("qzoo")

SHARED = Path(__file__).resolve().parents[2] / "shared"

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.pop("COLUMNS", None)  # which some runners of tests set: what is printed would be as narrow


YAML_READ = pytest.StashKey[list[str]]()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Notes the YAML that is read while tests are collected: `test_collection.py` wants none."""
    read = session.config.stash[YAML_READ] = []
    get = yaml_source._CoreLoader.get_single_node

    def noted(loader: yaml_source._CoreLoader) -> object:
        read.append(
            str(
                [
                    frame
                    for frame in traceback.extract_stack()
                    if "tests" in frame.filename and frame.filename != __file__
                ][-1]
            )
        )
        return get(loader)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_source._CoreLoader, "get_single_node", noted)
        return (yield)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread, as torchrun gives each process: sums of floats depend on how threads share them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _folder(variable: str, default: Path, what: str) -> Path:
    path = Path(os.environ.get(variable, default)).expanduser()
    if not path.is_dir():
        pytest.skip(f"no {what}: set {variable} to its folder")
    return path


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with cifar10/ and imagenet-mini/."""
    return _folder("QZOO_DATA", SHARED / "data", "real datasets")


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """The folder with the published CIFAR weights."""
    return _folder("QZOO_WEIGHTS_DIR", SHARED / "data" / "weights", "published weights")


@pytest.fixture(scope="session")
def oracle_dir() -> Path:
    """The folder with the results of the reference implementation."""
    return _folder("QZOO_ORACLE", SHARED / "oracle", "results of the reference implementation")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the user's recipes, cache or weights."""
    for variable in ("QZOO_DATA", "QZOO_WEIGHTS_DIR", "QZOO_RECIPES"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("QZOO_HOME", str(tmp_path / "home"))
