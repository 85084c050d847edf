"""Fitted networks: the tables are what counting gives, and nothing that the template forbids has a probability."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from llmsched_gym import extras
from llmsched_gym.errors import InputError, RunError
from llmsched_gym.profiler import structure
from llmsched_gym.profiler.ancestral import draw_states, mutual_information
from llmsched_gym.profiler.fit import EQUIVALENT_SAMPLE_SIZE, fit_profile, log_loss, profiling_jobs
from llmsched_gym.profiler.profile import Profile
from llmsched_gym.profiler.store import load_profile
from llmsched_gym.profiler.structure import MAX_PARENTS, clique_states, presence_edges
from llmsched_gym.profiler.variables import ABSENT, observe, to_states
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.toy import TOY_APPLICATIONS


def states_of(profile: Profile, jobs: int, seed: int) -> np.ndarray:
    """States of fresh jobs of the profile's application."""
    workload = profiling_jobs(profile.application, jobs, seed)
    return to_states(profile.variables, observe(workload, 0, profile.latency))


def index_of(profile: Profile) -> dict[str, int]:
    """Position of each variable."""
    return {variable.name: i for i, variable in enumerate(profile.variables)}


@pytest.fixture(scope="module")
def uncertain() -> Profile:
    """A probe of 1 s (6 of 10 jobs) tells that solving takes 1 s, one of 2 s that it takes 12 s."""
    past = profiling_jobs("uncertain", 1000, applications=TOY_APPLICATIONS)
    return fit_profile("uncertain", [past], latency="one-second-per-token")


def test_an_informative_stage_is_found(uncertain: Profile):
    probe, solve = uncertain.variables
    assert probe.means_s.tolist() == pytest.approx([1, 2])
    assert solve.means_s.tolist() == pytest.approx([1, 12])
    assert uncertain.parents == ((), (0,))
    assert uncertain.tables[0] == pytest.approx([0.6, 0.4], abs=0.05)
    assert np.diag(uncertain.tables[1]) == pytest.approx([1, 1], abs=0.05)
    drawn = draw_states(uncertain, 20_000, np.random.default_rng(1))
    share = uncertain.tables[0][0]
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert mutual_information(drawn[:, 0], drawn[:, 1]) == pytest.approx(entropy, abs=0.05)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_tables_are_smoothed_counts(name: str):
    """The shipped tables are (count + prior) / (total + prior) of their own jobs, row by row."""
    profile = load_profile(name)
    states = states_of(profile, profile.provenance["jobs"], profile.provenance["seed"])
    lacks = [variable.absent for variable in profile.variables]
    forced = {edge.child: edge for edge in presence_edges(APPLICATIONS[name].template, (states > 0) | ~np.array(lacks))}
    for column, (parents, table) in enumerate(zip(profile.parents, profile.tables, strict=True)):
        own = states[:, column]
        for row in np.ndindex(table.shape[:-1]):
            here = np.all(
                [states[:, one] == state for one, state in zip(parents, row, strict=True)] or [own >= 0], axis=0
            )
            alike = np.ones(len(states), dtype=np.bool_)
            allowed = np.ones(table.shape[-1], dtype=np.bool_)
            if column in forced:
                edge = forced[column]
                gone = lacks[edge.parent] and row[parents.index(edge.parent)] == 0
                alike = (states[:, edge.parent] == 0) == gone if lacks[edge.parent] else alike
                if lacks[column] and gone and edge.needs_parent:
                    allowed[1:] = False
                if lacks[column] and not gone and edge.follows_parent:
                    allowed[0] = False
            prior = allowed * (1 + np.bincount(own[alike], minlength=len(allowed)))
            prior = prior / prior.sum() * EQUIVALENT_SAMPLE_SIZE / (table.size // len(allowed))
            expected = np.bincount(own[here], minlength=len(allowed)) + prior
            assert np.allclose(table[row], expected / expected.sum(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_prior_does_not_shift_the_work(name: str):
    """Rare stages and rare rounds stay rare: drawn jobs take as long as the profiling jobs did."""
    profile = load_profile(name)
    states = states_of(profile, profile.provenance["jobs"], profile.provenance["seed"])
    drawn = draw_states(profile, 50_000, np.random.default_rng(0))
    mean, expected = (
        sum(float(variable.means_s[one[:, i]].mean()) for i, variable in enumerate(profile.variables))
        for one in (drawn, states)
    )
    assert mean == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_edges_follow_the_template(name: str):
    profile = load_profile(name)
    states = states_of(profile, 300, 5)
    lacks = np.array([variable.absent for variable in profile.variables])
    forced = presence_edges(APPLICATIONS[name].template, (states > 0) | ~lacks)
    for edge in forced:
        assert edge.parent in profile.parents[edge.child]
    for child, parents in enumerate(profile.parents):
        assert len(parents) <= MAX_PARENTS
        assert list(parents) == sorted(set(parents))
        assert all(parent < child for parent in parents)
    assert clique_states(profile.parents, profile.states.tolist()) <= structure.MAX_CLIQUE_STATES


@pytest.mark.parametrize("name", APPLICATIONS)
def test_presence_in_drawn_jobs_obeys_the_template(name: str):
    """The prior gives nothing to a stage whose gate is skipped, or to a candidate without a plan."""
    profile = load_profile(name)
    template = APPLICATIONS[name].template
    states = draw_states(replace(profile, tables=prior_like(profile)), 5000, np.random.default_rng(2))
    present = {
        variable.name: (states[:, i] > 0) | (not variable.absent) for i, variable in enumerate(profile.variables)
    }
    for node in template.nodes:
        gate = node.candidate_of or node.revealed_by
        if gate is not None:
            assert not (present[node.name] & ~present[gate]).any()
    for group in same_presence(name):
        for other in group[1:]:
            assert np.array_equal(present[group[0]], present[other])


def prior_like(profile: Profile) -> tuple[np.ndarray, ...]:
    """Tables that are even over what is possible, so that rare combinations are drawn."""
    return tuple((table > 0) / (table > 0).sum(axis=-1, keepdims=True) for table in profile.tables)


def same_presence(name: str) -> list[list[str]]:
    """Stages that jobs of an application have or lack together, by its own rules."""
    if name == "code_generation":
        return [[f"{step}_{k}" for step in ("reflect", "code", "test")] for k in range(2, 11)]
    if name == "web_search":
        return [[f"search_{k}", f"think_{k + 1}"] for k in range(1, 7)]
    if name == "sequence_sorting":
        steps = ("merge", "score_merge", "improve", "score_improve")
        return [[f"{step}_{size}" for step in steps] for size in (64, 128)]
    return [["replan", "more_tasks", "more_search", "final_join"]] if name == "llm_compiler" else []


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_network_predicts_other_jobs(name: str):
    profile = load_profile(name)
    states = states_of(profile, 500, 11)
    shares = [
        np.bincount(states[:, i], minlength=variable.states) / len(states)
        for i, variable in enumerate(profile.variables)
    ]
    independent = -sum(float(np.sum(share[share > 0] * np.log(share[share > 0]))) for share in shares)
    assert log_loss(profile, states) < independent - 1.0


def test_known_dependences():
    taskauto = load_profile("task_automation")
    at = index_of(taskauto)
    drawn = draw_states(taskauto, 5000, np.random.default_rng(0))
    sizes, plan = drawn[:, at["tools"]] + 1, taskauto.variables[at["plan"]].means_s[drawn[:, at["plan"]]]
    assert np.corrcoef(sizes, plan)[0, 1] > 0.85  # a planner that writes longer plans more
    code = load_profile("code_generation")
    at = index_of(code)
    drawn = draw_states(code, 20_000, np.random.default_rng(0))
    failed = drawn[:, at["reflect_2"]] > 0
    first = code.variables[at["code_1"]].means_s[drawn[:, at["code_1"]]]
    assert abs(np.corrcoef(first, failed)[0, 1]) < 0.05  # early lengths do not predict round counts
    assert 0.15 < (drawn[:, at["test_10"]] > 0).mean() < 0.25  # the whole budget burnt


GATED = ApplicationTemplate(
    "gated",
    "chain",
    (
        TemplateNode("try", StageKind.LLM),
        TemplateNode("fix", StageKind.LLM, ("try",), revealed_by="try"),
        TemplateNode("check", StageKind.REGULAR, ("fix",), revealed_by="try"),
        TemplateNode("again", StageKind.LLM, ("check",), revealed_by="fix"),
        TemplateNode("tools", StageKind.DYNAMIC, ("again",), revealed_by="again"),
        TemplateNode("only", StageKind.REGULAR, candidate_of="tools"),
    ),
)


def edges_of(present: list[list[int]]) -> dict[tuple[int, int], tuple[bool, bool]]:
    """Forced edges, each with needs_parent and follows_parent."""
    edges = presence_edges(GATED, np.array(present, dtype=np.bool_))
    return {(edge.parent, edge.child): (edge.needs_parent, edge.follows_parent) for edge in edges}


def test_presence_edges():
    jobs = [[1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]
    gate, both = (True, False), (True, True)
    assert edges_of(jobs) == {(0, 1): gate, (1, 2): both, (1, 3): gate, (3, 4): both, (4, 5): both}
    apart = [*jobs, [1, 1, 0, 0, 0, 0]]  # the check may be lacking alone
    assert edges_of(apart)[0, 2] == gate
    without_gate = [*jobs, [1, 0, 0, 1, 1, 1]]  # a trace whose jobs reveal `again` otherwise
    assert edges_of(without_gate)[1, 3] == (False, False)
    empty_plan = [*jobs, [1, 1, 1, 1, 0, 0]]
    assert edges_of(empty_plan)[3, 4] == gate


def test_the_search_bounds_the_cliques(monkeypatch: pytest.MonkeyPatch):
    workload = profiling_jobs("sequence_sorting", 600)
    wide = fit_profile("sequence_sorting", [workload])
    assert max(map(len, wide.parents)) > 1
    monkeypatch.setattr(structure, "MAX_CLIQUE_STATES", 700)
    narrow = fit_profile("sequence_sorting", [workload])
    assert max(map(len, narrow.parents)) == 1
    assert clique_states(narrow.parents, narrow.states.tolist()) <= 700


def test_clique_states():
    assert clique_states([(), (0,), (1,)], [2, 3, 4]) == 6 + 12
    assert clique_states([(), (), (0, 1)], [2, 3, 4]) == 24
    assert clique_states([(), ()], [2, 3]) == 5


def test_fitting_again_gives_the_same():
    shipped = load_profile("document_merging")
    for profile in (fit_profile("document_merging"), fit_profile("document_merging")):
        assert profile.parents == shipped.parents
        assert profile.provenance == shipped.provenance
        assert all(np.array_equal(a, b) for a, b in zip(profile.tables, shipped.tables, strict=True))
    other = fit_profile("document_merging", seed=1, jobs=500, bins=4)
    assert other.provenance["jobs"] == 500
    assert other.states.tolist() == [4] * 6
    assert not np.array_equal(other.variables[0].edges_s, shipped.variables[0].edges_s[:5])


def test_several_workloads_are_put_together():
    parts = [profiling_jobs("document_merging", 200, seed) for seed in (1, 2)]
    profile = fit_profile("document_merging", parts, bins=3)
    assert profile.provenance["jobs"] == 400
    assert profile.provenance["digests"] == [part.digest for part in parts]
    counts = np.array([133, 133, 134])
    smoothed = counts + EQUIVALENT_SAMPLE_SIZE * (counts + 1) / 403
    assert profile.tables[0] == pytest.approx(smoothed / (400 + EQUIVALENT_SAMPLE_SIZE), abs=1e-11)


def test_log_loss_is_that_of_enumeration(uncertain: Profile):
    joint = uncertain.tables[0][:, None] * uncertain.tables[1]
    states = np.array([[0, 0], [1, 1], [1, 0]])
    expected = -np.mean([np.log(joint[a, b]) for a, b in states])
    assert log_loss(uncertain, states) == pytest.approx(expected, rel=1e-12)


def test_a_stage_lacking_only_in_other_jobs_has_a_state():
    workload = profiling_jobs("web_search", 300)
    observed = observe(workload, 0, load_profile("web_search").latency)
    profile = fit_profile("web_search", [workload])
    first = index_of(profile)["search_1"]
    assert (observed.values[:, first] != ABSENT).all()  # every job searches at least once
    assert profile.variables[first].absent
    assert 0 < profile.tables[first][..., 0].max() < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 0}, "bins: got 0; expected a whole number from 1 to 15"),
        ({"bins": 16}, "bins: got 16"),
        ({"jobs": 0}, "n_jobs: got 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"equivalent_sample_size": 0}, "equivalent_sample_size: got 0; expected a number of jobs >= 1"),
        ({"latency": "llama-2-7b-h10"}, "did you mean 'llama-2-7b-h100'"),
    ],
)
def test_bad_arguments(options: dict, message: str):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        fit_profile("document_merging", **options)


def test_bad_sources():
    with pytest.raises(InputError, match="did you mean 'web_search'"):
        fit_profile("web_serch")
    workload = profiling_jobs("document_merging", 20)
    with pytest.raises(InputError, match="got 'web_search'; expected one of document_merging"):
        fit_profile("web_search", [workload])
    changed = replace(workload.templates[0], nodes=workload.templates[0].nodes[:-1])
    with pytest.raises(InputError, match="the same stages in every workload"):
        fit_profile("document_merging", [workload, replace(workload, templates=(changed,))])
    both = profiling_jobs("uncertain", 5, applications=TOY_APPLICATIONS)
    empty = replace(both, templates=(*both.templates, workload.templates[0]))
    with pytest.raises(InputError, match="at least one job of document_merging"):
        fit_profile("document_merging", [empty])


def test_without_pgmpy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=re.escape(f"{sys.executable} -m pip install 'llmsched-gym[profile]'")):
        fit_profile("document_merging")
