"""Made-up results of every kind that a page shows, with names that may be anybody's; and a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qzoo.report.html.write import CONTENTS
from qzoo.results.benchmark import BenchmarkReport, FloatOperator, Timing
from qzoo.results.calibration import Calibrated
from qzoo.results.check import CheckedQuantizer, CheckReport
from qzoo.results.details import Answer, Details, FlippedImage, QuantizerDetail, SeenValues
from qzoo.results.export import ExportReport, Finding, NodeParity, Parity
from qzoo.results.optimization import Change, Optimization, StepResult
from qzoo.results.reproduce import CalibrationReport, Report, ReportRow
from qzoo.results.search import LatencySource, SearchCandidate, SearchGroup, SearchPoint, SearchReport
from qzoo.results.sensitivity import Deviation, Excluded, LayerSensitivity, SensitivityReport
from qzoo.results.training import LogRow, TrainingReport
from qzoo.results.verification import ExactAgreement, UsualAgreement, VerificationReport
from qzoo.schema.finetune import FinetuneSpec
from qzoo.schema.recipe import Claim

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ENVIRONMENT: dict[str, str | int] = {"torch": "2.15.0", "cpu": "a CPU", "threads": 2}
PIXEL = bytes.fromhex("524946463c000000574542505650382030000000d001009d012a0100010002003425a00274ba01f80003b0")
"""The beginning of a WebP: pages hold pictures, and do not look into them."""


def row(variant: str, top1: float, verdict: Any = "own", **fields: Any) -> ReportRow:
    claim = Claim(top1=top1, tolerance=0.3, source="a paper of 2026")
    return ReportRow(
        variant=variant, stage="float" if variant == "float" else "ptq", method=None if variant == "float" else "mse",
        top1=top1, top5=99.0, ci95=(top1 - 1, top1 + 1), agreement_with_float=98.5, published=[claim],
        verdict=verdict, seconds=1.5, **fields,
    )  # fmt: skip


def reproduced(name: str, **fields: Any) -> Report:
    rows = [row("float", 75.0), row(name, 74.5, lost=7, gained=2, mcnemar_p=0.18), row("w4a4", 70.0)]
    return Report(
        **{
            "name": "net", "version": 3, "dataset": "imagenet-1k", "split": "val", "images": 1000, "complete": True,
            "rows": rows, "excluded": {"qat": f"needs {name}"}, "recipe_sha256": "0" * 64, "environment": ENVIRONMENT,
            "calibration": CalibrationReport(images=512, sample_sha256="0" * 64), **fields,
        }
    )  # fmt: skip


def sensitivity(name: str) -> SensitivityReport:
    layers = [
        LayerSensitivity(
            name=f"{name}.{n}", alone=Deviation(sqnr_db=None if n == 2 else 20.0 + n, top1=74.0, flips=3 - n),
            left_out=Deviation(sqnr_db=10.0, top1=73.0, flips=9), drop=1.0, gain=0.5, rank_by_sqnr=n + 1,
            rank_by_drop=n + 1, rule={"match": {"name": name}, "input": False},
        )
        for n in range(3)
    ]  # fmt: skip
    return SensitivityReport(
        name="net_int8", version=1, dataset="digits", split="test", images=200, float_top1=75.0,
        quantized=Deviation(sqnr_db=9.0, top1=72.0, flips=12), layers=layers, seconds=1.0, environment=ENVIRONMENT,
        mended=[Excluded(layers=[layers[0].name], deviation=Deviation(sqnr_db=12.0, top1=73.5, flips=5), gain=1.5)],
    )  # fmt: skip


def searched(name: str) -> SearchReport:
    names = ["int8", "w4a8", "float"]
    groups = [
        SearchGroup(
            name=f"{name}.{n}", layers=[f"{name}.{n}"], weights=1000 * (n + 1), macs=10_000, rules=[],
            unchanged=["int8"],
            loss={"int8": 0.001, "w4a8": 0.01 * n, "float": 0.0},
            cost={"bits": {"int8": 8.0, "w4a8": 4.0, "float": 32.0}},
        )
        for n in range(4)
    ]  # fmt: skip

    def point(called: str, candidate: str, bits: float, drop: float, front: bool) -> SearchPoint:
        return SearchPoint(
            name=called, choice={group.name: candidate for group in groups}, cost={"bits": bits},
            predicted_loss=0.02, predicted_deviation=0.3,
            measured=Deviation(sqnr_db=18.0, top1=74.0, flips=9), agreement=97.0, drop=drop,
            drop_ci95=(drop - 0.4, drop + 0.4), latency_ms=1.5, on_front=front,
        )  # fmt: skip

    points = [
        point("solution", "w4a8", 5.2, 0.4, True), point(f"uniform {name}", "int8", 8.0, 0.1, True),
        point("bits 4.5", "w4a8", 4.5, 1.4, True), point("bits 6", "float", 6.0, 2.0, False),
    ]  # fmt: skip
    return SearchReport(
        name="net_int8", variant="int8", version=1, dataset="imagenet-1k", split="val", target="onnxruntime",
        budget={"bits": 5.2, "max_drop": 0.5}, minimize="loss", groups=groups, rest={"bits": 0.0}, scored_images=128,
        candidates=[SearchCandidate(name=one, changes={}) for one in names], images=1000, float_top1=75.0,
        points=points, neighbours_tried=6, neighbours_better=1, environment=ENVIRONMENT, seconds=12.0,
        latency=LatencySource(file="table.json", runtime="onnxruntime", threads=2, float_ms=4.0, quantized_ms=1.6),
    )  # fmt: skip


def checked(name: str) -> CheckReport:
    one = CheckedQuantizer(
        path=f"{name}.input_quantizer", of="activation", range=(-1.0, 1.0), found=(-2.0, 2.0), ratio=0.5, clipped=3.25,
        fault="narrow", judged=True,
    )  # fmt: skip
    fine = one.model_copy(update={"path": "fc.input_quantizer", "fault": None, "ratio": None, "clipped": 0.0})
    return CheckReport(
        name="net_int8", images=64, agreement=95.0, ci95=(88.0, 99.0), sqnr_db=None, quantizers=[one, fine], seconds=1.0
    )


def verified(name: str) -> VerificationReport:
    return VerificationReport(
        name="net_int8", reproduced=False, cause=f"{name} differs.", dataset="digits", split="test",
        usual=UsualAgreement(images=100, identical=60, moved=10, flipped=30, largest=0.5), receipt_images=597,
        exact=ExactAgreement(images=50, moved=40, largest=0.1), claimed_top1=99.33, date="2026-11-25",
        environment={"cpu": name},
    )  # fmt: skip


def optimized(name: str) -> Optimization:
    changes = [Change(path=name, before=0.3, after=0.1), Change(path="fc", note=f"kept {name}")]
    return Optimization(steps=[StepResult(step="round", seconds=1.0, changes=changes)], images=32)


def trained(name: str) -> TrainingReport:
    rows = [
        LogRow(step=n, epoch=n / 2, lr=0.1, loss=1 / n, train_top1=50 + n, top1=60.0 + n if n % 2 == 0 else None)
        for n in range(1, 5)
    ]
    return TrainingReport(
        name="net_w4a4", recipe_sha256="", finetune=FinetuneSpec(epochs=2, lr=0.1), dataset=name, images=100,
        steps_per_epoch=2, processes=1, start_top1=50.0, top1=64.0, eval_images=100, rows=rows, seconds=60.0, resumed=0,
        date="2026-12-01", environment=ENVIRONMENT,
    )  # fmt: skip


def exported(name: str) -> ExportReport:
    node = NodeParity(
        node=name, alone=2, plain=3, plain_share=0.01, optimized=None, optimized_share=None
    )  # fmt: skip
    parity = Parity(
        images=32, own_runtime=True, agreement_plain=100.0, agreement=96.9, logit_difference_plain=0.01,
        logit_difference=0.2, largest_logit=9.0, nodes=[node],
    )  # fmt: skip
    found = [Finding(rule="r", level="error", node=name, message=f"`{name}` is wrong")]
    return ExportReport(
        name="net_int8", runtime="onnxruntime", file=f"{name}.onnx", opset=21, bytes=1000, float_bytes=4000, layers=9,
        quantized_layers=8, findings=found, parity=parity, seconds=1.0, environment=ENVIRONMENT,
    )  # fmt: skip


def timed(name: str) -> BenchmarkReport:
    timing = Timing(batch=1, float_ms=(3.0, 4.0, 5.0), quantized_ms=(1.0, 1.6, 2.0))
    return BenchmarkReport(
        name="net_int8", runtime="onnxruntime", threads=2, timings=[timing], integer_macs=0.98,
        integer_additions=(2, 3), float_operators=[FloatOperator(node=name, kernel="Conv", reason="no kernel")],
        cpu_flags=["avx2"], environment=ENVIRONMENT,
    )  # fmt: skip


def calibrated(name: str) -> Calibrated:
    return Calibrated(name, Path(f"{name}.ranges"), None, images=512, quantizers=4, seconds=1.0, short=False)


MADE: dict[str, Callable[[str], Any]] = {
    "reproduce": reproduced, "sensitivity": sensitivity, "search": searched, "check": checked, "verify": verified,
    "optimize": optimized, "finetune": trained, "export": exported, "benchmark": timed, "calibrate": calibrated,
}  # fmt: skip
assert {kind for kind, _ in CONTENTS.values()} | {"calibrate"} == MADE.keys()


def details(name: str, tensors: int = 2) -> Details:
    seen = SeenValues(tuple(x / 4 for x in range(-4, 13)), tuple(range(1, 17)), -0.9, 2.9)
    quantizers = [
        QuantizerDetail(
            f"{name}.{n}.{of}_quantizer", "weight" if of == "weight" else "activation", "8bit per-tensor mse", 2.0,
            (-1.0, 2.0), seen, 0.5 * n, 40.0 - n, None if of == "weight" else 30.0 - n,
        )
        for n in range(tensors)
        for of in ("input", "weight")
    ]  # fmt: skip
    flip = FlippedImage(7, "cat", "cat", 2.5, (Answer(name, "dog", 0.5), Answer("w4a4", name, 1.5)), PIXEL)
    return Details(
        name="net", command=f"qzoo reproduce {name}", recipe=f"name: {name}\n" * 3, environment=ENVIRONMENT,
        quantizers={name: quantizers, "w4a4": quantizers}, compared=32, seen_on="512 images", flips=[flip],
        flips_left_out=3, flipped=True,
    )  # fmt: skip


@pytest.fixture(scope="session")
def made() -> dict[str, Callable[[str], Any]]:
    """Makes a result of each kind, of things that have a name."""
    return MADE


@pytest.fixture(scope="session")
def gathered() -> Callable[..., Details]:
    """Makes details, of things that have a name."""
    return details


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's chromium, headless."""
    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: install the development group")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()
