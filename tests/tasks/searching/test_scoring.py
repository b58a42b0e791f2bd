from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from qzoo.progress import silent
from qzoo.schema.resolution.call import with_call
from qzoo.tasks.inputs.kept_batches import KeptBatches, kept_batches
from qzoo.tasks.measuring.running import measuring
from qzoo.tasks.searching.resume import begun, key_of
from qzoo.tasks.searching.scoring import Scores, divergence, losses_of, score
from qzoo.tasks.searching.space import Space


@pytest.fixture
def batches() -> Iterator[KeptBatches]:
    images = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)).split(5)
    with kept_batches(images, torch.device("cpu"), None, silent, None) as kept:
        yield kept


def kl(logits: Tensor, reference: Tensor) -> float:
    """By torch's own function."""
    exact, found = reference.double(), logits.double()
    return float(F.kl_div(found.log_softmax(1), exact.log_softmax(1), reduction="sum", log_target=True))


def test_divergence_is_that_of_kullback_and_leibler() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, reference = torch.randn(7, 10, generator=generator), torch.randn(7, 10, generator=generator)
    assert divergence(logits, reference) == pytest.approx(kl(logits, reference))
    assert divergence(reference, reference) == 0
    never = torch.tensor([[0.0, -torch.inf]])
    assert divergence(torch.zeros(1, 2), never) == pytest.approx(torch.log(torch.tensor(2.0)).item())


def test_a_score_is_the_divergence_with_the_group_alone(space: Callable[..., Space], batches: KeptBatches) -> None:
    found = space({"scheme": "int8_ort"}, "int8", "w2a8", "float")
    with measuring(found.mixture.model):
        losses = score(found.mixture, batches, Scores(), None, silent, lambda _: None).losses()
    for group in (found.groups[0], found.groups[2], found.groups[-1]):
        choice = {one.name: "w2a8" if one is group else "float" for one in found.groups}
        alone = found.solved.model(with_call(found.variant, rules=found.rules(choice))).eval()
        with torch.no_grad():
            total = sum(kl(alone(x), found.solved.float_model(x)) for x in batches)
        assert losses[group.name]["w2a8"] == pytest.approx(total / 12, rel=1e-6)
        assert losses[group.name]["float"] == 0


def test_losses_of_whole_choices_are_those_of_their_models(space: Callable[..., Space], batches: KeptBatches) -> None:
    found = space("int8", "w8a8", "w2a8", "float", keep=("conv1",))
    names = ["w8a8", "w2a8", "float"]
    choices = [{group.name: names[(place + step) % 3] for place, group in enumerate(found.groups)} for step in range(3)]
    with measuring(found.mixture.model):
        losses = losses_of(found.mixture, choices, batches, None, silent, "")
    for choice, loss in zip(choices, losses, strict=True):
        model = found.solved.model(with_call(found.variant, rules=found.rules(choice))).eval()
        with torch.no_grad():
            assert loss == pytest.approx(sum(kl(model(x), found.solved.float_model(x)) for x in batches) / 12, rel=1e-6)


def test_scores_go_on_where_they_were(space: Callable[..., Space], batches: KeptBatches, tmp_path: Path) -> None:
    found, file = space("int8", "w8a8", "w2a8"), tmp_path / "scores.json"
    scores, keep = begun(file, "key")
    ran: list[int] = []

    def interrupted(kept: Scores) -> None:
        keep(kept)
        raise KeyboardInterrupt

    with measuring(found.mixture.model):
        whole = score(found.mixture, batches, Scores(), None, silent, lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            score(found.mixture, batches, scores, None, silent, interrupted)
        again, keep = begun(file, "key")
        assert (again.batches, again.images) == (1, 5)
        hook = found.mixture.model.register_forward_hook(lambda *_: ran.append(1))
        score(found.mixture, batches, again, None, silent, keep)
        hook.remove()
    assert again == whole
    assert begun(file, "key")[0] == whole
    # Of each of the two batches left: float, and each group with each candidate that does something of its own.
    assert len(ran) == 2 * (1 + 8 * 2 + 1)


def test_scores_of_anything_else_are_left_aside(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    begun(file, "key")[1](Scores(1, 8, {"conv": {"w8a8": 0.5}}))
    assert begun(file, "key")[0].images == 8
    assert begun(file, "another")[0] == Scores()
    file.write_text("{")
    assert begun(file, "key")[0] == Scores()
    assert begun(None, "key")[0] == Scores()
    assert key_of("a", {"b": 1}) == key_of("a", {"b": 1}) != key_of("a", {"b": 2})
