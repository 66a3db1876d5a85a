"""Every kind of result is read, checked and shown: a kind that one table knows and another does not would fail on a user's file."""

from __future__ import annotations

import importlib

import pytest

from cosma_sched import api
from cosma_sched.report import answers


@pytest.mark.parametrize("schema", api._KINDS)
def test_a_schema_names_classes_and_functions_that_exist(schema: str) -> None:
    kind = api._KINDS[schema]
    for path in (kind.answer, kind.check, *kind.subjects, *filter(None, [kind.recheck])):
        assert api._named(path) is not None
    module = importlib.import_module(f"cosma_sched.{kind.answer.partition(':')[0]}")
    assert schema == module.SCHEMA


def test_every_kind_of_result_can_be_shown() -> None:
    classes = {kind.answer.partition(":")[2] for kind in api._KINDS.values()}
    assert classes == set(answers._LINES)
    for path in answers._LINES.values():
        module, _, name = path.partition(":")
        assert callable(getattr(importlib.import_module(f"cosma_sched.report.{module}"), name))
