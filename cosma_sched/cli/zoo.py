"""``cosma-sched zoo``: the networks that ship with the program."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cosma_sched.cli.arguments import Debug, Json
from cosma_sched.cli.output import Action, Output, table_width

NAME = "zoo"


def command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One network: its card.", show_default=False)] = None,
    json: Json = False,
    debug: Debug = False,
) -> Action:
    """List the networks that every command takes by name: operators, M_R, M_P (int8, batch 1) and where each is defined.

    Example: cosma-sched zoo densenet121
    """
    del debug

    def run() -> int:
        from cosma_sched.frontends import zoo
        from cosma_sched.report.table import card_lines, zoo_lines

        if name is not None:
            card, path = zoo.card(name), str(zoo.path(name))
            Output(json).deliver({"schema": "cosma-sched/card/1", **asdict(card), "path": path}, card_lines(card, path))
            return 0
        cards = [zoo.card(each) for each in zoo.names()]
        Output(json).deliver(
            {"schema": "cosma-sched/zoo/1", "networks": [asdict(card) for card in cards]}, zoo_lines(cards, width=table_width())
        )
        return 0

    return run
