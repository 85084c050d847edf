"""Pages point to what is there: links, paths, names of the code, environments, policies, options."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from pages import FOLDERS, PAGES, ROOT, code_spans, name_of, prose

from llmsched_gym.cli import _VERBS
from llmsched_gym.cli.parsing import _types
from llmsched_gym.evaluation.report import rows, write_report
from llmsched_gym.evaluation.runner import compare
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.policies.registry import joint_names, learned_names, placement_names, policy_names
from llmsched_gym.registration import ENVIRONMENTS

README_LINES = 120
README_COLUMNS = 120
README_WORDS = 700


def anchors(page: Path) -> set[str]:
    """Names of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def targets(page: Path) -> list[str]:
    """What a page links to, or shows as a picture."""
    text = prose(page)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'\bsrc(?:set)?="([^"]+)"', text)


def sources() -> Iterator[str]:
    """The Python files that a reader may be told of, and the scenarios and suites that ship."""
    for folder in FOLDERS:
        for path in sorted((*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.yaml"))):
            yield path.read_text(encoding="utf-8")


@cache
def names_of_the_code() -> set[str]:
    """All words of the sources, and the arguments of Perfetto traces, which are made from columns of times."""
    known = set(re.findall(r"\w+", "\n".join(sources())))
    return known | {name.replace("_ns", "_after_s") for name in known if name.endswith("_ns")}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in targets(page):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_the_index_lists_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {target.partition("#")[0] for target in targets(index)}
    assert {page.name for page in index.parent.glob("*.md")} - {index.name} <= listed


def test_the_front_page_fits_on_two_screens() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= README_LINES
    assert max(map(len, lines)) <= README_COLUMNS
    assert sum(bool(re.search("[A-Za-z]", word)) for line in lines for word in line.split()) <= README_WORDS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_exist(page: Path) -> None:
    """They are relative to the repository, the package or the page; capitals stand for a name of the reader's own."""
    spans = {span for span in code_spans(page) if re.fullmatch(r"\w[\w.*-]*/[\w.*/-]*", span)}
    spans |= set(re.findall(r"(?<![\w/.])\w+/[\w/]+\.(?:py|md|json|yaml)\b", prose(page)))
    named = [span for span in sorted(spans) if span.partition("/")[0] not in ("LLMSched", "results", "runs")]
    places = (ROOT, ROOT / "llmsched_gym", page.parent)
    patterns = {span: re.sub(r"\bNAME\b", "*", span.rstrip("/")) for span in named}
    missing = [span for span, pattern in patterns.items() if not any(any(one.glob(pattern)) for one in places)]
    assert not missing, ", ".join(missing)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_dotted_names_exist(page: Path) -> None:
    for span in code_spans(page):
        found = re.match(r"llmsched_gym(\.\w+)+", span)
        if found is None or span.endswith(".py"):
            continue
        words = found[0].split(".")
        for length in range(len(words), 0, -1):
            try:
                value = importlib.import_module(".".join(words[:length]))
            except ModuleNotFoundError:
                continue
            for word in words[length:]:
                value = getattr(value, word)
            break


def test_the_workflow_runs_what_anybody_can_run() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert [step["run"] for step in steps if "run" in step][-1] == ".ci/run"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_environments_are_registered() -> None:
    for page in PAGES:
        used = set(re.findall(r"LLMSched/\w+-v\d+", page.read_text(encoding="utf-8")))
        assert used <= ENVIRONMENTS.keys(), name_of(page)
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"`{environment}`" in front for environment in ENVIRONMENTS)


def test_the_front_page_counts_policies_right() -> None:
    assert f" {len(policy_names())} policies " in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_are_of_the_code(page: Path) -> None:
    """What looks like a name with an underscore occurs in a source: columns, metrics, variables, functions."""
    spans = [span for span in code_spans(page) if "/" not in span and not re.search(r"\.(py|csv|json|png)\b", span)]
    unknown = {name for span in spans for name in re.findall(r"(?<![\w-])[A-Za-z_]*_\w+", span)} - names_of_the_code()
    assert not unknown, ", ".join(sorted(unknown))


def test_options_in_prose_exist() -> None:
    """Options are fields of a verb, or stand in a script."""
    known = set(re.findall(r"--[\w-]+", "\n".join(sources())))
    known |= {
        f"--{field.replace('_', '-')}" for field in re.findall(r"^    (\w+): ", "\n".join(sources()), re.MULTILINE)
    }
    for module, _ in _VERBS.values():
        file, _, verb = module.partition(":")
        known |= {
            f"--{option}" for option in _types(getattr(importlib.import_module(f"llmsched_gym.cli.{file}"), verb))
        }
    for page in PAGES:
        spans = [span for span in code_spans(page) if span.startswith(("--", "llmsched-gym ", "python "))]
        used = {option for span in spans for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", span)}
        assert used <= known, f"{name_of(page)}: {used - known}"
        ours = [span.split() for span in spans if span.startswith("llmsched-gym ")]
        for words in ours:
            assert words[1].startswith("-") or {words[1], " ".join(words[1:3])} & _VERBS.keys(), words


def test_every_policy_is_explained() -> None:
    text = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    names = (*policy_names(), *joint_names(), *placement_names(), *learned_names())
    assert all(f"| `{policy}` |" in text for policy in names)


def test_every_verb_is_explained() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [verb for verb in _VERBS if f"llmsched-gym {verb}" not in text] == []


def test_results_are_explained(tmp_path: Path) -> None:
    """Every file of a comparison, and every column of its table."""
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    comparison = compare(Setting.make("toy"), ["fcfs", "srtf"], [0], tmp_path, workers=1)
    write_report(comparison, tmp_path, [])
    inside = ("episodes", "bounds")
    assert all(f"`{path.name}`" in text for path in tmp_path.iterdir() if path.name not in inside)
    assert all(f"`{folder}/<" in text for folder in inside)
    row = rows(comparison)[0]
    setting = {"scenario", "jobs", "load", "policy", "privileged", "seed"}
    own = {column for column in row if re.match("mean_jct_s_", column)}
    assert all(f"`{column}`" in text for column in row.keys() - setting - own)
    assert own
    assert "`mean_jct_s_<application>`" in text
