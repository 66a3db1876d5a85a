"""Whether groups are groups: a partition, connected, convex, one sink, nothing apart inside, no cycle between them; for the checker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import networkx as nx

from cosma_sched.fusion.topology import Member

Broken = tuple[str, str, str | None]
"""Name of the rule, what is wrong, the group or member concerned."""


def network_digraph(members: Mapping[str, Member]) -> nx.DiGraph[str]:
    """Return who reads whose result."""
    digraph: nx.DiGraph[str] = nx.DiGraph()
    digraph.add_nodes_from(members)
    digraph.add_edges_from((read.source, member.name) for member in members.values() for read in member.reads if read.source is not None)
    return digraph


def partition_rules(groups: Sequence[Sequence[str]], members: Mapping[str, Member]) -> Iterator[Broken]:
    """Yield every member that stands in no group or in several, and names that are no members."""
    times = Counter(name for group in groups for name in group)
    for name in members:
        if times[name] != 1:
            yield "partition", f"stands in {times[name]} groups", name
    for name in times:
        if name not in members:
            yield "partition", "is no layer and no vector operator of the network", name
    if any(not group for group in groups):
        yield "partition", "a group has no members", None


def group_rules(group: Sequence[str], members: Mapping[str, Member], digraph: nx.DiGraph[str]) -> Iterator[Broken]:
    """Yield what a group breaks by itself."""
    inside, title = set(group), label(group)
    for member in (members[name] for name in group) if len(group) > 1 else ():
        if member.apart:
            yield "apart", f"{member.name} runs alone: {member.apart}", title
        for read in member.reads:
            if read.source in inside and read.apart:
                yield "apart", f"{read.source} and {member.name} cannot stand in one group: {read.apart}", title
    own = digraph.subgraph(group)
    if not nx.is_weakly_connected(own):
        yield "connected", "its members do not hang together", title
    place = {name: index for index, name in enumerate(group)}
    for source, reader in own.edges:
        if place[source] >= place[reader]:
            yield "order", f"{reader} runs before {source}, which it reads", title
    sinks = [name for name in group if own.out_degree(name) == 0]
    if sinks != [group[-1]]:
        yield "sink", f"must have its last member as its only sink; sinks are {', '.join(sinks)}", title
    yield from _convexity(inside, digraph, title)


def _convexity(inside: set[str], digraph: nx.DiGraph[str], title: str) -> Iterator[Broken]:
    """Yield one path that leaves the group and comes back."""
    border = {reader: name for name in inside for reader in digraph.successors(name) if reader not in inside}
    seen, waiting = set(border), list(border)
    while waiting:
        name = waiting.pop()
        for reader in digraph.successors(name):
            if reader in inside:
                yield "convex", f"a path leaves it and comes back through {name} to {reader}", title
                return
            if reader not in seen:
                seen.add(reader)
                waiting.append(reader)


def order_rules(groups: Sequence[Sequence[str]], digraph: nx.DiGraph[str]) -> Iterator[Broken]:
    """Yield a cycle between groups if there is one, else every group that stands before one it reads."""
    place = {name: index for index, group in enumerate(groups) for name in group}
    quotient: nx.DiGraph[int] = nx.DiGraph()
    quotient.add_nodes_from(range(len(groups)))
    quotient.add_edges_from((place[a], place[b]) for a, b in digraph.edges if place[a] != place[b])
    if not nx.is_directed_acyclic_graph(quotient):
        cycle = [edge[0] for edge in nx.find_cycle(quotient)]
        yield "cycle", f"groups wait for each other: {' -> '.join(label(groups[index]) for index in [*cycle, cycle[0]])}", None
        return
    for a, b in quotient.edges:
        if a > b:
            yield "order", f"stands before {label(groups[a])}, which it reads", label(groups[b])


def label(group: Sequence[str]) -> str:
    """Return a short name of a group."""
    if not group:
        return "an empty group"
    return f"group {group[0]} .. {group[-1]}" if len(group) > 1 else f"group {group[0]}"
