"""Tests of the expert planner."""
