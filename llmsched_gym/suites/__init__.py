"""Suites: fixed sets of scenarios and seeds that policies are told apart on, with frozen scores of a reference."""

from __future__ import annotations

from llmsched_gym.suites.suite import SUITES, Suite, SuiteScenario, load_suite

__all__ = ["SUITES", "Suite", "SuiteScenario", "load_suite"]
