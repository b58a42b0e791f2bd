from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from qzoo.cli.main import app
from qzoo.commands.new import new_recipe
from qzoo.errors import UnknownNameError
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.reading.loading import parse_recipe

cli = CliRunner()


@pytest.mark.parametrize(
    ("name", "scheme", "additions", "stem"),
    [
        ("torchvision/resnet18", "int8", 8, "resnet18"),
        ("torchvision/squeezenet1_1", "int8", 0, "squeezenet1_1"),
        ("timm/test_vit", "int8_vit", 12, "test_vit"),
        ("timm/resnet18.a1_in1k", "int8", 8, "resnet18_a1_in1k"),
        ("timm/tf_efficientnet_lite0", "int8", 9, "tf_efficientnet_lite0"),
    ],
)
def test_says_what_was_found(name: str, scheme: str, additions: int, stem: str) -> None:
    made = new_recipe(name)
    recipe = parse_recipe(made.text)
    assert (recipe.scheme, made.residual_additions, made.stem) == (scheme, additions, stem)
    assert ("int8_residual" in RecipeEntry.from_recipe(recipe, stem).variants) is (additions > 0)
    assert recipe.base.architecture == name.partition("/")[2].partition(".")[0]
    assert recipe.base.weights
    assert "x" in made.text.partition("# The transform comes with the weights: ")[2].split(",")[0]


def test_the_example_in_the_comments_is_a_rule_that_matches(tmp_path: Path) -> None:
    text = new_recipe("torchvision/resnet18").text.replace("  # mine:", "  mine:")
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    result = cli.invoke(app, ["validate", str(path)])
    assert result.exit_code == 0, result.output
    assert "8 variants" in result.output


def test_torchvisions_own_figure_and_digits_are_pinned() -> None:
    recipe = parse_recipe(new_recipe("torchvision/mobilenet_v2").text)
    assert recipe.base.sha256 == "7ebf99e0"
    assert recipe.published[0].top1 == 72.154
    assert recipe.published[0].source.endswith("weights metadata")
    assert "+" not in recipe.published[0].source


@pytest.mark.parametrize("name", ["vgg13", "swin_v2_b"])
def test_digits_that_yaml_would_take_for_a_number_are_quoted(name: str) -> None:
    digits = parse_recipe(new_recipe(f"torchvision/{name}").text).base.sha256
    assert digits is not None
    assert f'sha256: "{digits}"' in new_recipe(f"torchvision/{name}").text


def test_the_sha256_of_weights_that_are_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "resnet18.a1_in1k.safetensors").write_bytes(b"some weights")
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(tmp_path))
    made = new_recipe("timm/resnet18")
    assert made.sha256 == hashlib.sha256(b"some weights").hexdigest()
    assert yaml.safe_load(made.text)["base"]["sha256"] == made.sha256


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnet18",
            "'resnet18' names no model of a library, nor one of your own. Give timm/<name> or torchvision/<name> or ",
        ),
        ("timm/", "'timm/' names no model of a library"),
        ("timm/resnet81", "timm has no model 'resnet81'. Did you mean 'resnet18'?"),
        ("timm/resnet18.a9_in1k", "resnet18 has no weights 'a9_in1k'. Did you mean 'a"),
        ("torchvision/resnet", "torchvision has no classifier 'resnet'."),
    ],
)
def test_names_that_are_none(name: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        new_recipe(name)
    assert message in str(caught.value)


class TestCommand:
    def test_writes_a_file_that_validates_and_never_replaces_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        first = cli.invoke(app, ["new", "timm/test_resnet"])
        assert first.exit_code == 0, first.output
        assert "test_resnet.yaml: " in first.output
        assert "qzoo validate test_resnet.yaml" in first.output
        assert cli.invoke(app, ["validate", "test_resnet.yaml"]).exit_code == 0
        again = cli.invoke(app, ["new", "timm/test_resnet"])
        assert again.exit_code == 2
        assert "test_resnet.yaml exists. Replace it with --force" in again.output
        assert cli.invoke(app, ["new", "timm/test_resnet", "--force"]).exit_code == 0

    def test_prints_or_writes_into_a_folder(self, tmp_path: Path) -> None:
        printed = cli.invoke(app, ["new", "timm/test_resnet", "-o", "-"]).output
        assert parse_recipe(printed).base.source == "timm"
        assert cli.invoke(app, ["new", "timm/test_resnet", "-o", str(tmp_path)]).exit_code == 0
        assert (tmp_path / "test_resnet.yaml").read_text() == printed
