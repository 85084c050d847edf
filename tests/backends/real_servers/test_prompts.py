"""Prompts share their leading ids exactly where the workload says so."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from llmsched_gym.backends.vllm.prompts import DEFAULT_TOKENS, PromptBook, TokenRange, content_ids
from llmsched_gym.errors import InputError
from llmsched_gym.scenario import load_scenario
from llmsched_gym.workloads.workload import Workload


@pytest.fixture(scope="module")
def workload() -> Workload:
    return load_scenario("mixed").replaced(jobs=60).build("train", 3)


def shared(first: list[int], second: list[int]) -> int:
    """Number of leading ids that two prompts have in common."""
    length = min(len(first), len(second))
    differ = np.flatnonzero(np.array(first[:length]) != np.array(second[:length]))
    return int(differ[0]) if len(differ) else length


def test_lengths_and_range(workload: Workload):
    book = PromptBook(workload)
    for task in np.flatnonzero(workload.tasks["model"] >= 0).tolist():
        prompt = book.prompt(task)
        assert len(prompt) == workload.tasks["prompt_tokens"][task]
        assert min(prompt) >= DEFAULT_TOKENS.first
        assert max(prompt) < DEFAULT_TOKENS.stop
        assert all(type(token) is int for token in prompt[:2])  # plain integers: they go into JSON


def test_application_prefix_is_shared_to_its_end(workload: Workload):
    book, tasks = PromptBook(workload), workload.tasks
    compared = 0
    for prefix in np.unique(tasks["app_prefix"][tasks["app_prefix"] >= 0]):
        rows = np.flatnonzero((tasks["app_prefix"] == prefix) & (tasks["job_prefix"] < 0))[:2]
        if len(rows) == 2:
            compared += 1
            found = shared(book.prompt(rows[0]), book.prompt(rows[1]))
            # By chance, the next id may be the same one time in 741.
            assert found - int(tasks["app_prefix_tokens"][rows[0]]) in (0, 1)
    assert compared >= 3


def test_chain_repeats_prompt_and_recorded_output(workload: Workload):
    book, tasks = PromptBook(workload), workload.tasks
    stages, templates = workload.stages, workload.templates
    names = [templates[app].name for app in workload.jobs["app"][stages["job"][tasks["stage"]]]]
    compared = 0
    for chain in np.unique(tasks["job_prefix"][np.array(names) == "web_search"]):
        turns = np.flatnonzero((tasks["job_prefix"] == chain) & (chain >= 0))
        for before, after in pairwise(turns.tolist()):
            length, output = int(tasks["prompt_tokens"][before]), int(tasks["output_tokens"][before])
            assert tasks["job_prefix_tokens"][after] == length + output
            earlier = book.prompt(before)
            assert shared(earlier, book.prompt(after)) == length
            generated = content_ids(f"generated {before}", 0, output).tolist()
            book.record(before, generated)
            assert shared(earlier + generated, book.prompt(after)) == length + output
            compared += 1
    assert compared >= 10


def test_siblings_share_the_whole_prompt_and_nothing_else(workload: Workload):
    book, tasks = PromptBook(workload), workload.tasks
    whole = (tasks["job_prefix"] >= 0) & (tasks["job_prefix_tokens"] == tasks["prompt_tokens"])
    chains, counts = np.unique(tasks["job_prefix"][whole], return_counts=True)
    first, second = (np.flatnonzero(whole & (tasks["job_prefix"] == chain))[:2] for chain in chains[counts > 1][:2])
    assert book.prompt(first[0]) == book.prompt(first[1])
    start = int(tasks["app_prefix_tokens"][first[0]])
    assert shared(book.prompt(first[0])[start:], book.prompt(second[0])[start:]) <= 1


def test_unrelated_tasks_and_epochs_share_nothing(workload: Workload):
    tasks, book = workload.tasks, PromptBook(workload)
    prefixes = np.unique(tasks["app_prefix"][tasks["app_prefix"] >= 0])
    firsts = [int(np.flatnonzero(tasks["app_prefix"] == prefix)[0]) for prefix in prefixes]
    for first, second in pairwise(firsts):
        assert shared(book.prompt(first), book.prompt(second)) <= 1
    assert shared(book.prompt(firsts[0]), PromptBook(workload, epoch=1).prompt(firsts[0])) <= 1
    assert book.prompt(firsts[0]) == PromptBook(workload).prompt(firsts[0])


def test_ids_depend_on_content_and_position_only():
    whole = content_ids("a", 0, 100)
    np.testing.assert_array_equal(content_ids("a", 40, 100), whole[40:])
    assert np.count_nonzero(content_ids("b", 0, 100) == whole) < 5
    assert len(np.unique(content_ids("a", 0, 20_000))) == DEFAULT_TOKENS.stop - DEFAULT_TOKENS.first
    assert set(content_ids("a", 0, 100, TokenRange(7, 9))) == {7, 8}


def test_empty_range():
    with pytest.raises(InputError, match="0 <= first < stop"):
        TokenRange(5, 5)
