"""Profile files: whole, of this version, for this application; and what other tools read of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pgmpy.factors.discrete import TabularCPD
from pgmpy.readwrite import BIFReader

from llmsched_gym.errors import InputError
from llmsched_gym.profiler.bif import export_bif, state_names, to_bif, variable_names
from llmsched_gym.profiler.fit import fit_profile
from llmsched_gym.profiler.profile import Profile
from llmsched_gym.profiler.store import (
    SHIPPED,
    _digest,
    check_template,
    list_profiles,
    load_profile,
    read_profile,
    save_profile,
)
from llmsched_gym.workloads.applications import APPLICATIONS
from llmsched_gym.workloads.template import StageKind

Content = dict[str, Any]


def same(one: Profile, other: Profile) -> bool:
    """Whether two profiles are equal to the last bit."""
    arrays = ("edges_s", "slices_s", "repeats", "calls_s")
    pairs = list(zip(one.variables, other.variables, strict=True))
    return (
        (one.application, one.nodes, one.parents, one.provenance)
        == (other.application, other.nodes, other.parents, other.provenance)
        and one.latency == other.latency
        and all((a.name, a.node, a.absent, a.kind) == (b.name, b.node, b.absent, b.kind) for a, b in pairs)
        and all(np.array_equal(getattr(a, name), getattr(b, name)) for a, b in pairs for name in arrays)
        and all(np.array_equal(a, b) for a, b in zip(one.tables, other.tables, strict=True))
    )


@pytest.mark.parametrize("name", APPLICATIONS)
def test_shipped_profiles(name: str, tmp_path: Path):
    assert sorted([*APPLICATIONS, "probe", "probe_known"]) == list_profiles()
    profile = load_profile(name)
    check_template(profile, APPLICATIONS[name].template, name)
    assert profile.provenance["split"] == "profile"
    assert (SHIPPED / f"{name}.json").stat().st_size < 200_000
    for variable, table in zip(profile.variables, profile.tables, strict=True):
        assert np.allclose(table.sum(axis=-1), 1.0, rtol=0, atol=1e-10)
        assert variable.edges_s[0] == 0
        assert np.isinf(variable.edges_s[-1])
        bins = variable.means_s[int(variable.absent) :][: len(variable.edges_s) - 1]
        assert len(bins) + len(variable.repeats) == variable.states - variable.absent
        assert (np.diff(bins) > 0).all() or variable.kind is StageKind.DYNAMIC
    copy = tmp_path / "copy.json"
    save_profile(profile, copy)
    assert same(profile, load_profile(copy))
    assert copy.read_bytes() == (SHIPPED / f"{name}.json").read_bytes()


def test_a_fit_is_what_its_file_holds(tmp_path: Path):
    profile = fit_profile("document_merging")
    save_profile(profile, tmp_path / "mine.json")
    assert same(profile, read_profile(tmp_path / "mine.json"))
    assert (tmp_path / "mine.json").read_bytes() == (SHIPPED / "document_merging.json").read_bytes()


def test_unknown_names(tmp_path: Path):
    with pytest.raises(InputError, match="did you mean 'web_search'"):
        load_profile("websearch")
    with pytest.raises(InputError, match="no such file or directory"):
        load_profile(tmp_path / "none.json")
    with pytest.raises(InputError, match="a path that can be written"):
        save_profile(load_profile("web_search"), tmp_path / "none" / "x.json")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.999])
def test_cut_short(share: float, tmp_path: Path):
    whole = (SHIPPED / "web_search.json").read_bytes()
    path = tmp_path / "cut.json"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(
        InputError, match=r"cut\.json: line \d+, column \d+: got no JSON \(.*\); expected a whole profile"
    ):
        load_profile(path)


def _set(*places: str | int, to: Any) -> Callable[[Content], None]:
    def change(content: Any) -> None:
        for place in places[:-1]:
            content = content[place]
        content[places[-1]] = to

    return change


FIRST = ("variables", 0)
CASES: dict[str, tuple[Callable[[Content], None], str]] = {
    "another format": (_set("format", to="other"), "format: got 'other'; expected llmsched-gym/profile"),
    "a version to come": (_set("version", to=3), "version: got 3; expected 2"),
    "a version that was": (_set("version", to=1), "version: got 1; expected 2"),
    "unknown field": (_set("colour", to=1), "colour: got 1"),
    "missing field": (lambda content: content.pop("nodes") and None, "nodes: got nothing"),
    "not a number": (_set(*FIRST, "table", 0, to=float("nan")), "variables.0.table.0: got nan; expected a number"),
    "text for a number": (_set(*FIRST, "table", 0, to="a lot"), "variables.0.table.0: got 'a lot'"),
    "negative probability": (_set(*FIRST, "table", 0, to=-0.1), "rows sum to 1"),
    "too much probability": (_set(*FIRST, "table", 0, to=0.9), "rows sum to 1"),
    "too few probabilities": (_set(*FIRST, "table", to=[1]), "variables.0.table: got 1; expected 6 probabilities"),
    "a parent that comes later": (_set("variables", 1, "parents", to=[1]), "indices of earlier variables"),
    "parents out of order": (_set("variables", 2, "parents", to=[1, 0]), "ascending indices"),
    "another node's index": (_set(*FIRST, "node", to=3), "the index of think_1 in nodes"),
    "edges that go back": (_set(*FIRST, "edges_s", to=[2, 1, 3, 4, 5]), "ascending numbers > 0"),
    "too many states": (_set(*FIRST, "edges_s", to=list(range(1, 30))), "got 30 states; expected at most 16"),
    "times of other states": (_set(*FIRST, "slices_s", to=[[1.0] * 20]), "slices_s: got 1 rows; expected 6"),
    "times out of order": (_set(*FIRST, "slices_s", 0, 1, to=0.0), "slices_s.0: got"),
    "too few slices": (_set(*FIRST, "calls_s", to=[1.0]), "20 ascending numbers >= 0"),
    "repeats from 3": (_set(*FIRST, "repeats", to=[3, 4]), "ascending numbers from 2"),
    "unknown kind": (_set(*FIRST, "kind", to="gpu"), "variables.0.kind: got 'gpu'"),
    "bad latency": (_set("latency", "ms", to=[0, 0, 0, 0]), "iteration_ms: got 0"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_files(case: str, tmp_path: Path):
    change, message = CASES[case]
    content = json.loads((SHIPPED / "web_search.json").read_text())
    change(content)
    head = ("format", "version", "digest")
    # A right digest, so that the content itself is looked at.
    content["digest"] = _digest({name: value for name, value in content.items() if name not in head})
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        read_profile(path)
    assert "bad.json: " in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_changed_content(tmp_path: Path):
    text = (SHIPPED / "web_search.json").read_text()
    path = tmp_path / "changed.json"
    path.write_text(text.replace('"jobs": 10000', '"jobs": 30000'))
    with pytest.raises(InputError, match="digest"):
        read_profile(path)


def test_other_versions_of_an_application():
    profile = load_profile("web_search")
    template = APPLICATIONS["web_search"].template
    with pytest.raises(InputError, match="mine: application: got 'web_search'; expected a profile of llm_compiler"):
        check_template(profile, APPLICATIONS["llm_compiler"].template, "mine")
    shorter = replace(template, nodes=template.nodes[:-2])
    with pytest.raises(InputError, match="stages that differ in search_6, think_7; expected those of web_search"):
        check_template(profile, shorter, "mine")
    first = replace(template.nodes[0], kind=StageKind.REGULAR)
    with pytest.raises(InputError, match="variable think_1: kind: got 'llm'; expected regular"):
        check_template(profile, replace(template, nodes=(first, *template.nodes[1:])), "mine")


@pytest.mark.parametrize("name", ["document_merging", "llm_compiler", "sequence_sorting"])
def test_pgmpy_reads_the_export(name: str, tmp_path: Path):
    profile = load_profile(name)
    export_bif(profile, tmp_path / "net.bif")
    network = BIFReader(str(tmp_path / "net.bif")).get_model()
    network.check_model()
    names = variable_names(profile)
    assert sorted(network.nodes()) == sorted(names)
    edges = {(names[parent], names[child]) for child, parents in enumerate(profile.parents) for parent in parents}
    assert set(network.edges()) == edges
    for child, parents in enumerate(profile.parents):
        found = network.get_cpds(names[child])
        assert isinstance(found, TabularCPD)
        order = [*(names[parent] for parent in parents), names[child]]
        values = np.transpose(found.values, [found.variables.index(one) for one in order])
        for one, variable in zip(order, (*parents, child), strict=True):
            assert found.state_names[one] == state_names(profile.variables[variable])
        assert np.allclose(values, profile.tables[child], rtol=0, atol=1e-12)


def test_names_in_bif():
    profile = load_profile("document_merging")
    odd = ("a b", "a-b", "2nd", "größe", "a_b", "ok")
    variables = tuple(replace(variable, name=name) for variable, name in zip(profile.variables, odd, strict=True))
    names = variable_names(replace(profile, variables=variables))
    assert names == ["a_b", "a_b_1", "v_2nd", "gr__e", "a_b_4", "ok"]
    assert to_bif(replace(profile, application="my app")).startswith("network my_app {")
