from qzoo.schema.chosen_rules import chosen_rules, rule_for, same_for_all
from qzoo.schema.rule import Rule

CONV = {"match": {"name": "conv"}, "weight": False, "input": False}
FC = {"match": {"name": "fc"}, "weight": False, "input": False}
POOL = {"match": {"name": "pool"}, "input": False}
ADD = {"match": {"name": "block"}, "residual": "none"}
MATMUL = {"match": {"name": "attn", "op": "matmul"}, "input": False}
W4 = {"weight": {"bits": 4}}
W4A4 = {"weight": {"bits": 4}, "input": {"bits": 4}}
FLOAT = {"weight": False, "input": False}


def test_a_rule_speaks_of_the_roles_that_there_are() -> None:
    assert rule_for(CONV, W4A4) == {"match": {"name": "conv"}, "weight": {"bits": 4}, "input": {"bits": 4}}
    assert rule_for(POOL, W4A4) == {"match": {"name": "pool"}, "input": {"bits": 4}}
    assert rule_for(POOL, W4) is None
    assert rule_for(ADD, W4A4) == {"match": {"name": "block"}, "residual": {"bits": 4}}
    assert rule_for(ADD, FLOAT) == {"match": {"name": "block"}, "residual": "none"}
    assert rule_for(MATMUL, FLOAT) == MATMUL


def test_what_is_said_alike_stands_in_one_rule() -> None:
    found = chosen_rules([([CONV, ADD], W4A4, "a"), ([FC], W4A4, "a"), ([POOL], FLOAT, "b")])
    assert found == [
        {"match": {"name": ["conv", "fc"]}, "weight": {"bits": 4}, "input": {"bits": 4}, "why": "a"},
        {"match": {"name": "block"}, "residual": {"bits": 4}, "why": "a"},
        {"match": {"name": "pool"}, "input": False, "why": "b"},
    ]
    assert all(Rule.model_validate(rule) for rule in found)


def test_reasons_and_operators_keep_rules_apart() -> None:
    found = chosen_rules([([CONV], W4, "a"), ([FC], W4, "b"), ([MATMUL], FLOAT, "a"), ([POOL], FLOAT, "a")])
    assert [(rule["match"]["name"], rule["why"]) for rule in found] == [
        ("conv", "a"), ("fc", "b"), ("attn", "a"), ("pool", "a"),
    ]  # fmt: skip


def test_same_for_all_names_every_group() -> None:
    (rule,) = same_for_all({"conv": [CONV], "fc": [FC], "pool": [POOL]}, W4, "w4")
    assert rule == {"match": {"name": ["conv", "fc"]}, "weight": {"bits": 4}, "why": "w4"}
