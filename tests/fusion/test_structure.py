"""Partition, connectedness, convexity, one sink, order, and cycles between groups that are each convex."""

from __future__ import annotations

import networkx as nx

from cosma_sched.fusion.structure import group_rules, network_digraph, order_rules, partition_rules
from cosma_sched.fusion.topology import Member, members_of
from tests.fusion.cases import conv
from tests.fusion.nets import Net

CHAIN = Net((1, 1, 4, 4), (conv("a", "x"), conv("b", "a"), conv("c", "b")))
DIAMOND = Net((1, 1, 4, 4), (conv("a", "x"), conv("b", "a"), conv("c", "a"), conv("d", "b", "c")))
TWO_BY_TWO = Net((1, 1, 4, 4), (conv("a", "x"), conv("b", "x"), conv("c", "b", "a"), conv("d", "a", "b")))
"""c reads b and a, d reads a and b: groups {a, c} and {b, d} are connected and convex, and wait for each other."""


def parts(net: Net) -> tuple[dict[str, Member], nx.DiGraph]:
    members = members_of(net.graph())
    return members, network_digraph(members)


def names(rules: object) -> set[str]:
    return {rule for rule, _, _ in rules}  # type: ignore[attr-defined]


def test_every_member_stands_in_one_group() -> None:
    members, _ = parts(CHAIN)
    assert list(partition_rules([("a", "b"), ("c",)], members)) == []
    assert ("partition", "stands in 0 groups", "c") in list(partition_rules([("a", "b")], members))
    assert ("partition", "stands in 2 groups", "b") in list(partition_rules([("a", "b"), ("b", "c")], members))
    assert names(partition_rules([("a", "b", "c"), ("ghost",)], members)) == {"partition"}
    assert names(partition_rules([("a", "b", "c"), ()], members)) == {"partition"}


def test_a_group_hangs_together_and_comes_in_order() -> None:
    members, digraph = parts(CHAIN)
    assert list(group_rules(("a", "b"), members, digraph)) == []
    assert "connected" in names(group_rules(("a", "c"), members, digraph))
    assert "order" in names(group_rules(("b", "a"), members, digraph))


def test_a_path_that_leaves_and_comes_back_is_named() -> None:
    members, digraph = parts(DIAMOND)
    assert list(group_rules(("a", "b", "c", "d"), members, digraph)) == []
    [(rule, message, _)] = list(group_rules(("a", "b", "d"), members, digraph))
    assert (rule, message) == ("convex", "a path leaves it and comes back through c to d")


def test_a_group_has_one_sink() -> None:
    members, digraph = parts(DIAMOND)
    assert names(group_rules(("a", "b", "c"), members, digraph)) == {"sink"}


def test_convex_groups_may_wait_for_each_other() -> None:
    members, digraph = parts(TWO_BY_TWO)
    groups = [("a", "c"), ("b", "d")]
    assert [list(group_rules(group, members, digraph)) for group in groups] == [[], []]
    [(rule, message, _)] = list(order_rules(groups, digraph))
    assert rule == "cycle"
    assert "group a .. c -> group b .. d" in message


def test_a_group_stands_behind_those_it_reads() -> None:
    _, digraph = parts(CHAIN)
    assert list(order_rules([("a",), ("b", "c")], digraph)) == []
    assert names(order_rules([("b", "c"), ("a",)], digraph)) == {"order"}


def test_what_has_no_rule_for_regions_stays_apart() -> None:
    members, digraph = parts(CHAIN)
    members["b"].apart = "it is recurrent"
    assert names(group_rules(("a", "b"), members, digraph)) == {"apart"}
    assert list(group_rules(("b",), members, digraph)) == []
