"""Bases of one's own class: what is made of them, with which weights and transform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms import v2

import qzoo
from qzoo.errors import ArgumentError, QzooError, UnsupportedError, WeightsError
from qzoo.models import own_models
from qzoo.models.bases import base_train_transform, create_base, input_format, meta_model, weights_facts
from qzoo.models.image_transform import DefaultTransformWarning
from qzoo.models.own_models import register_model
from qzoo.schema.recipe import Base
from tests.each import for_each

TO_FLOAT = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


class Tiny(nn.Module):
    """A network for grey images of 8 pixels, with a constructor that needs values."""

    transform = v2.Compose([v2.Grayscale(), v2.Resize(8), TO_FLOAT, v2.Normalize([0.5], [0.25])])

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
        self.conv, self.fc = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_models, "_registered", {})
    register_model("tiny", Tiny)


def base(name: str = "tiny", **fields: Any) -> Base:
    return Base(source="python", architecture=name, **fields)


def test_it_is_ones_own_class_with_quantizers_inside() -> None:
    model = qzoo.create("python/tiny:int8", num_classes=3)
    assert isinstance(model, Tiny)
    assert model.fc.out_features == 3
    assert {p.device.type for p in meta_model(base()).parameters()} == {"meta"}
    assert len(qzoo.explain("python/tiny:int8").quantizers) == 4


def test_a_module_that_is_there_already_is_not_changed() -> None:
    net = Tiny()
    register_model("instance", net)
    register_model("same", lambda: net)
    for name in ("instance", "same"):
        made = qzoo.create(f"python/{name}:int8", pretrained="float")
        assert torch.equal(made.fc.weight, net.fc.weight)
        assert type(net.conv) is nn.Conv2d
    with pytest.raises(ArgumentError, match=r"python/instance is a module already, which takes no num_classes\."):
        qzoo.create("python/instance", num_classes=3)


def made_of_nothing() -> Any:
    return {}


def made_wrongly() -> nn.Module:
    return nn.Linear("4", 2)  # type: ignore[arg-type]


@for_each(("factory", "message"), [
    (made_of_nothing, r"made_of_nothing made a dict for python/odd; expected a torch\.nn\.Module\."),
    (made_wrongly, r"made_wrongly\(\), which makes python/odd, raised TypeError: .* \(.*py:\d+\)\."),
    (nn.Identity.forward, r"forward\(\), which makes python/odd, raised TypeError: .*missing 2 required"),
])  # fmt: skip
def test_factories_that_make_nothing(factory: Any, message: str) -> None:
    register_model("odd", factory, replace=True)
    with pytest.raises(ArgumentError, match=message):
        qzoo.create("python/odd:int8")


class TestWeights:
    @pytest.fixture
    def file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        save_file(Tiny().state_dict(), tmp_path / "tiny.safetensors")
        torch.save(Tiny().state_dict(), tmp_path / "tiny.pt")
        return tmp_path / "tiny.safetensors"

    def test_random_ones_are_refused_and_the_factorys_own_are_taken(self) -> None:
        message = r"Nothing says which weights python/tiny has: .*Tiny gives random ones.*\{weights: tiny\."
        with pytest.raises(WeightsError, match=message):
            create_base(base(), pretrained=True)

        def seeded() -> nn.Module:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                return Tiny()

        register_model("seeded", seeded)
        assert torch.equal(create_base(base("seeded"), pretrained=True).fc.weight, seeded().fc.weight)  # type: ignore[union-attr, arg-type]

    def test_a_factory_that_takes_pretrained_gets_it(self) -> None:
        def builder(pretrained: bool = False) -> nn.Module:
            return Tiny().apply(constant) if pretrained else Tiny()

        def constant(module: nn.Module) -> None:
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.constant_(module.weight, 0.5)
                nn.init.constant_(module.bias, 0.5)  # type: ignore[arg-type]

        register_model("builder", builder)
        assert float(create_base(base("builder"), pretrained=True).fc.bias.detach()[0]) == 0.5  # type: ignore[union-attr, index]
        assert float(create_base(base("builder")).fc.bias.detach()[0]) != 0.5  # type: ignore[union-attr, index]

    @for_each("where", ["a path", "a name", "registered", "registered by that name", "pickled"])
    def test_of_a_file(self, where: str, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        weights: dict[str, str | None] = {
            "a path": str(file), "a name": "elsewhere.safetensors", "registered": None,
            "registered by that name": "tiny.safetensors", "pickled": "tiny.pt",
        }  # fmt: skip
        register_model("tiny", Tiny, weights=file if "registered" in where else None, replace=True)
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / "elsewhere.safetensors").write_bytes(file.read_bytes())
        monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(tmp_path / "folder"))
        one, other = (create_base(base(weights=weights[where]), pretrained=True) for _ in range(2))
        assert torch.equal(one.fc.weight, other.fc.weight)  # type: ignore[union-attr, arg-type]
        facts = weights_facts(base(weights=weights[where]))
        assert facts.tag == (weights[where] or "tiny.safetensors")
        assert facts.path is not None

    @for_each(("fields", "message"), [
        ({"weights": "tiny.safetensors", "sha256": "0" * 64}, r"tiny\.safetensors has SHA-256 .*, expected 000"),
        ({"weights": "gone.safetensors"}, r"No weights .*gone\.safetensors on this machine\. Put"),
        ({"weights": "no/gone.pt"}, r"weights of python/tiny are to be no/gone\.pt, and there is no such file\. Corr"),
        ({"weights": "code.pt"}, r"it asks for .*Tiny, and code from a weights file is never run"),
        ({"weights": "other.safetensors"}, r"other\.safetensors does not fit Tiny: 4 keys missing"),
    ])  # fmt: skip
    def test_that_are_not_right(self, fields: dict[str, str], message: str, file: Path) -> None:
        save_file({"x": torch.zeros(2)}, "other.safetensors")
        torch.save(Tiny(), "code.pt")
        with pytest.raises(WeightsError, match=message):
            create_base(base(**fields), pretrained=True)


def plain(image: Image.Image) -> Tensor:
    return (v2.functional.to_dtype(v2.functional.to_image(image.resize((16, 16))), scale=True) - 0.4) / 0.2


class TestTransform:
    @for_each(("transform", "expected"), [
        (None, (8, (0.5,), (0.25,), "bilinear")),
        (plain, (16, (0.4,) * 3, (0.2,) * 3, "bilinear")),
        (v2.Compose([v2.Resize((9, 9), v2.InterpolationMode.BICUBIC), TO_FLOAT]), (9, (0,) * 3, (1,) * 3, "bicubic")),
        (lambda tensor: tensor[:, :4, :4].float() / 255, (4, (0,) * 3, (1,) * 3, "bilinear")),
    ])  # fmt: skip
    def test_tells_what_the_model_expects(self, transform: Any, expected: tuple[Any, ...]) -> None:
        register_model("tiny", Tiny, transform=transform, replace=True)
        form = input_format(base())
        assert (form.size, form.interpolation) == (expected[0], expected[3])
        assert form.mean == pytest.approx(expected[1], abs=1e-4)
        assert form.std == pytest.approx(expected[2], abs=1e-4)
        assert qzoo.transform("python/tiny") is (transform or Tiny.transform)

    def test_is_found_on_the_class_of_what_a_factory_makes_and_a_method_or_part_is_none(self) -> None:
        class Method(nn.Linear):
            def transform(self, x: Tensor) -> Tensor:
                return x

        class Part(nn.Linear):
            def __init__(self) -> None:
                super().__init__(2, 2)
                self.transform = v2.Grayscale()

        register_model("function", lambda: Tiny(3))
        register_model("instance", Tiny())
        assert qzoo.transform("python/function") is qzoo.transform("python/instance") is Tiny.transform
        for kind in (lambda: Method(2, 2), Part):
            register_model("other", kind, replace=True)
            with pytest.warns(DefaultTransformWarning):
                qzoo.transform("python/other")

    def test_that_of_training_has_its_channels(self) -> None:
        image = Image.new("RGB", (20, 20), (255, 255, 255))
        augmented = base_train_transform(base(), "pictures", seed=0)(image, 0)
        assert augmented.shape == (1, 8, 8)
        assert torch.allclose(augmented, torch.full_like(augmented, 2.0), atol=0.03)

    def test_default_is_imagenets_and_says_so(self) -> None:
        register_model("plain", nn.Flatten)
        with pytest.warns(DefaultTransformWarning, match=r"python/plain was trained with: images are resized to 256"):
            made = qzoo.transform("python/plain")(Image.new("RGB", (300, 400)))
        assert made.shape == (3, 224, 224)
        assert made[:, 0, 0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
        assert input_format(base("plain")).size == 224

    def test_timms_own_settings_go_before_the_default(self) -> None:
        def net() -> nn.Module:
            made: Any = nn.Sequential(nn.Conv2d(3, 2, 3))
            made.pretrained_cfg = {
                "input_size": (3, 160, 160), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 0.95,
                "interpolation": "bicubic",
            }  # fmt: skip
            return made  # type: ignore[no-any-return]

        register_model("timms", net)
        form = input_format(base("timms"))
        assert (form.size, form.mean, form.interpolation) == (160, (0.5,) * 3, "bicubic")
        assert qzoo.transform("python/timms")(Image.new("RGB", (200, 200))).unique().tolist() == [-1]

    @for_each(("transform", "kind", "message"), [
        (lambda image: 3, ArgumentError, r"The transform of python/tiny gives a int; expected a float tensor"),
        (v2.PILToTensor(), ArgumentError, r"gives torch\.uint8 \(3, 256, 256\); expected a float tensor \(C, H, W\)"),
        (lambda image: image.no_such, ArgumentError, r"takes neither a PIL image \(AttributeError: .*nor a uint8"),
        (v2.Compose([v2.Resize((8, 4)), TO_FLOAT]), UnsupportedError, r"gives images of 8x4, .*Crop them to a square"),
    ])  # fmt: skip
    def test_that_is_none(self, transform: Any, kind: type[QzooError], message: str) -> None:
        register_model("tiny", Tiny, transform=transform, replace=True)
        with pytest.raises(kind, match=message):
            input_format(base())
