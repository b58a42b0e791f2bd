import json
from pathlib import Path

import pytest

import qzoo
from qzoo.commands.search import kept_at, looked_at, search_named, starting_variant
from qzoo.commands.search_again import load_search, search_again
from qzoo.commands.searched_recipe import apply, write_recipe
from qzoo.commands.settings import Settings
from qzoo.errors import ArgumentError, DataError, QzooError, RecipeError
from qzoo.results.search import SearchReport
from qzoo.runtimes.registry import runtime_named
from qzoo.zoo.name_lookup import find
from qzoo.zoo.zoo_model import ZooModel
from tests.each import for_each

FEW = Settings(calib_images=32, eval_images=100)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[ZooModel, SearchReport]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QZOO_HOME", str(tmp_path_factory.mktemp("home")))
        start, report = search_named(
            find("resnet8_digits"), FEW, budget={"bits": 4.0}, candidates=["w8a8", "w4a8", "w2a8"], score_images=16,
            points=3, neighbours=2,
        )  # fmt: skip
        assert load_search(kept_at("resnet8_digits_int8")) == report
        return start, report


def test_a_base_starts_from_the_variant_of_its_target() -> None:
    base = find("resnet8_digits")
    assert starting_variant(base, None).name == "resnet8_digits_int8"
    ort = starting_variant(base, runtime_named("onnxruntime"))
    assert ort.name == "resnet8_digits_int8_ort"
    assert ort.resolved.residual is not None, "the recipe has no such variant, so that of the scheme is taken"
    assert starting_variant(find("resnet8_digits_w4a4"), runtime_named("openvino")).name == "resnet8_digits_w4a4"


def test_a_trained_variant_is_refused() -> None:
    with pytest.raises(ArgumentError) as error:
        starting_variant(find("resnet8_digits_w4a4_qat"), None)
    assert "resnet8_digits_w4a4_qat is trained; a search changes how layers are quantized" in str(error.value)
    assert "Start from a variant that is calibrated: resnet8_digits_int8, " in str(error.value)


def test_scored_images_are_spread_over_those_that_are_calibrated_on() -> None:
    images = looked_at(find("resnet8_digits_int8"), Settings(calib_images=100, eval_images=50), 10)
    assert images.scored.indices == images.calibration.indices[::10]
    assert images.counts == (100, 50)
    assert len(looked_at(find("resnet8_digits_int8"), Settings(calib_images=5), 10).scored) == 5


def test_the_report_says_where_it_is_from(found: tuple[ZooModel, SearchReport]) -> None:
    _, report = found
    assert (report.name, report.variant, report.dataset, report.split) == (
        "resnet8_digits_int8", "int8", "digits", "test",
    )  # fmt: skip
    assert (report.images, report.scored_images) == (100, 16)
    assert report.environment["torch"]
    assert report.solution.cost["bits"] <= 4


def test_the_recipe_makes_the_solution(
    found: tuple[ZooModel, SearchReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, report = found
    monkeypatch.setenv("QZOO_HOME", str(tmp_path / "home"))
    name = write_recipe(start, report, tmp_path / "mixed.yaml")
    assert name == f"{tmp_path / 'mixed.yaml'}:int8_bits4"
    result = qzoo.reproduce(name, FEW)
    assert report.solution.measured is not None
    assert result.rows[1].top1 == pytest.approx(report.solution.measured.top1)
    rules = find(name).entry.recipe.variants["int8_bits4"].rules
    assert [rule.why for rule in rules] == [rule["why"] for rule in report.rules()]
    assert all(rule.why and rule.why.startswith("search: ") for rule in rules)


def test_a_recipe_keeps_what_other_searches_wrote(found: tuple[ZooModel, SearchReport], tmp_path: Path) -> None:
    start, report = found
    file = tmp_path / "mixed.yaml"
    write_recipe(start, report, file)
    write_recipe(start, report.model_copy(update={"budget": {"size": 0.2}}), file)
    assert find(str(file)).entry.variants == ["int8", "int8_bits4", "int8_size0.2"]
    other = find("resnet20_cifar10")
    with pytest.raises(RecipeError, match=r"is of another base, resnet8_digits\. Name another file"):
        write_recipe(ZooModel(other.entry, "int8"), report.model_copy(update={"groups": []}), file)
    with pytest.raises(RecipeError, match=r"-o mixed\.json is no recipe file\. Name it mixed\.yaml\."):
        write_recipe(start, report, Path("mixed.json"))


def test_it_is_added_to_ones_own_recipes(
    found: tuple[ZooModel, SearchReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QZOO_RECIPES", str(tmp_path))
    name = apply(*found)
    assert name == "resnet8_digits_searched_int8_bits4"
    assert name in qzoo.list_models("resnet8_digits_searched*")
    monkeypatch.delenv("QZOO_RECIPES")
    with pytest.raises(RecipeError, match="QZOO_RECIPES names no folder"):
        apply(*found)


def test_another_budget_needs_no_images(found: tuple[ZooModel, SearchReport], tmp_path: Path) -> None:
    file = tmp_path / "search.json"
    file.write_text(found[1].to_json())
    measured = [point.choice for point in found[1].points]
    again = [search_again(file, {"bits": tenths / 10, "size": None}) for tenths in range(21, 80, 4)]
    new = [report.solution for _, report in again if report.solution.choice not in measured]
    assert new
    assert all(point.measured is None and point.drop is None for point in new)
    assert all(report.solution.cost["bits"] <= report.budget["bits"] for _, report in again)
    assert {start.name for start, _ in again} == {"resnet8_digits_int8"}
    _, report = search_again(file, {"bits": 2.0})
    assert report.solution.agreement is not None, "which was measured before, as a uniform choice"
    _, report = search_again(file, {"max_drop": 100.0})
    assert report.solution.cost["size"] == min(point.cost["size"] for point in report.points)


@for_each(
    "content, budget, told",
    [
        ("{", {"bits": 5}, "search.json is no JSON"),
        ("[]", {"bits": 5}, "search.json is no report of a search"),
        ('{"schema": 1, "groups": []}', {"bits": 5}, "no report of a search that this version reads"),
        (None, {}, "A search needs a budget"),
        (None, {"latency": 0.5}, "This search has no latency. Search again with target="),
        (None, {"max_drop": 0.0, "bits": 2.0}, "No point that was measured loses at most 0"),
    ],
)
def test_mistakes_with_kept_searches_are_told(
    found: tuple[ZooModel, SearchReport], tmp_path: Path, content: str | None, budget: dict[str, float], told: str
) -> None:
    file = tmp_path / "search.json"
    file.write_text(found[1].to_json() if content is None else content)
    with pytest.raises(QzooError) as error:
        search_again(file, budget)
    assert told in str(error.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be read: No such file"):
        load_search(tmp_path / "search.json")


def test_json_has_what_scripts_need(found: tuple[ZooModel, SearchReport]) -> None:
    content = json.loads(found[1].to_json())
    assert content["schema"] == 1
    assert set(content["groups"][0]["loss"]) == {"w8a8", "w4a8", "w2a8"}
    assert set(content["groups"][0]["cost"]) == {"bits", "size", "macs_float"}
