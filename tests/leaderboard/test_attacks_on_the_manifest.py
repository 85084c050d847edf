"""What submission.json must not say is refused under its name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from submissions import Attack, change_manifest, faults_of, nest, said, text_of_manifest

from llmsched_gym.suites.suite import Suite

ATTACKS: dict[str, tuple[Attack, str]] = {
    "other version of the suite": (
        said(lambda one: one.update(suite="tiny-v2")),
        "submission.json: suite: got 'tiny-v2'; expected tiny-v1",
    ),
    "other digest of the suite": (
        said(lambda one: one.update(suite_digest="0" * 32)),
        r"submission.json: suite_digest: got '0{32}'; expected \w{32}, that of tiny-v1 here",
    ),
    "version of the package that is to come": (
        said(lambda one: one.update(package_version="99.0.0")),
        "submission.json: package_version: got '99.0.0'; expected 0.1.0 to .*",
    ),
    "version before the first": (
        said(lambda one: one.update(package_version="0.0.1")),
        "submission.json: package_version: got '0.0.1'; .*",
    ),
    "tuned on the suite": (
        said(lambda one: nest(one, "disclosures", "tuned_on_suite", value=True)),
        "submission.json: disclosures.tuned_on_suite: got True; expected false: .*",
    ),
    "no disclosure of training": (
        said(lambda one: one["disclosures"].pop("training")),
        "submission.json: disclosures.training: got nothing; expected text.*",
    ),
    "empty disclosure": (
        said(lambda one: nest(one, "disclosures", "tuning", value="")),
        "submission.json: disclosures.tuning: got ''; expected text that is not empty.*",
    ),
    "oracle passed off as online": (
        said(lambda one: nest(one, "policy", "privileged", value=True)),
        "submission.json: track: got online of a policy that reads the truth; .*",
    ),
    "search without a budget": (
        said(lambda one: one.update(track="search")),
        "submission.json: disclosures.simulations_per_decision: got 0 in the track search; .*",
    ),
    "day that is none": (
        said(lambda one: one.update(date="2026-02-30")),
        "submission.json: date: got '2026-02-30'; expected a day of the calendar",
    ),
    "field more": (
        said(lambda one: one.update(score=0.1)),
        "submission.json: score: got 0.1; expected no such field, .*",
    ),
    "field more inside": (
        said(lambda one: nest(one, "policy", "score", value=0.1)),
        "submission.json: policy.score: got 0.1; expected no such field, .*",
    ),
    "path that leads away": (
        said(lambda one: nest(one, "files", "../../secret", value="0" * 32)),
        r"submission.json: files: got '../../secret'; expected text as a name.*",
    ),
    "absolute path": (
        said(lambda one: nest(one, "files", "/etc/passwd", value="0" * 32)),
        r"submission.json: files: got '/etc/passwd'; .*",
    ),
    "digest of a file that is not there": (
        said(lambda one: nest(one, "files", "other.safetensors", value="0" * 32)),
        "submission.json: files.other.safetensors: got no file; .*",
    ),
    "digest of a file that has no place": (
        said(lambda one: nest(one, "files", "model.pt", value="0" * 32)),
        "submission.json: files.model.pt: got '0{32}'; expected digests of the files that may lie here",
    ),
    "no digest of the code": (
        said(lambda one: one["files"].pop("policy.py")),
        r"submission.json: policy.specs: got 'policy.py:Mine\?.*\n.*: files: got no digest of policy.py; .*",
    ),
    "no digest of weights": (
        said(lambda one: one["files"].pop("my_factor.safetensors")),
        "submission.json: files: got no digest of my_factor.safetensors; expected a digest per file",
    ),
    "code of a factory elsewhere": (
        said(lambda one: nest(one, "policy", "specs", value=["../evil.py:Mine"])),
        "submission.json: policy.specs.0: got '../evil.py:Mine'; expected the name of a policy.*",
    ),
    "a thousand authors": (
        said(lambda one: one.update(authors=[f"A{i}" for i in range(1000)])),
        "submission.json: authors: got .*",
    ),
    "a name of a megabyte": (
        said(lambda one: one.update(name="A" * (1 << 20))),
        r"submission.json: got 10\d+ bytes; expected at most 65536 bytes",
    ),
    "a key twice": (
        text_of_manifest(lambda text: text.replace('"format": 1', '"format": 1, "format": 1')),
        r"submission.json: line 2: got 'format' twice; expected every key once in an object",
    ),
    "byte order mark": (
        text_of_manifest(lambda text: "\ufeff" + text),
        "submission.json: got a byte order mark; .*",
    ),
    "null character": (
        text_of_manifest(lambda text: text + "\0"),
        r"submission.json: line \d+: got a null character; .*",
    ),
    "half a surrogate": (
        text_of_manifest(lambda text: text.replace("My scheduler", "My \ud800")),
        r"submission.json: line 3: got bytes that are no UTF-8; .*",
    ),
    "other encoding": (
        lambda folder: (folder / "submission.json").write_bytes(
            (folder / "submission.json").read_text().encode("utf-16")
        ),
        r"submission.json: line 1: got bytes that are no UTF-8; .*",
    ),
    "no JSON": (text_of_manifest(lambda _: "format: 1"), "submission.json: line 1, column 1: got no JSON .*"),
    "nothing at all": (text_of_manifest(lambda _: ""), "submission.json: line 1, column 1: got no JSON .*"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_by_name(name: str, mine: Path, suite: Suite) -> None:
    attack, expected = ATTACKS[name]
    attack(mine)
    faults = faults_of(mine, suite)
    assert faults
    assert re.fullmatch(expected, "\n".join(faults)), "\n".join(faults)


def leaves(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values in a JSON object."""
    yield path
    if isinstance(content, dict):
        for name in content:
            yield from leaves(content[name], (*path, name))
    elif isinstance(content, list):
        for i in range(len(content)):
            yield from leaves(content[i], (*path, i))


WRONG = (None, True, -1, 1.5, 10**400, float("nan"), "", "\u202e", "<b>", "\u212b", "TO BE FILLED IN", [], {}, [[]])


def test_no_field_of_the_manifest_takes_a_value_of_another_kind(prepared: Path, mine: Path, suite: Suite) -> None:
    """Each value in turn is replaced by each of many wrong ones; what replaces it is refused under its name."""
    whole = json.loads((prepared / "submission.json").read_text())
    (mine / "episodes.jsonl.xz").unlink()  # they are right, and would only be replayed again and again
    places = [place for place in leaves(whole) if place]
    missing = "submission.json: files.episodes.jsonl.xz: got no file; expected digests of files that are there"
    told_anyway = {"files": [missing]}
    assert len(places) > 25
    for place in places:
        for wrong in WRONG:
            content = json.loads(json.dumps(whole))
            inside = content
            for name in place[:-1]:
                inside = inside[name]
            if inside[place[-1]] == wrong and type(inside[place[-1]]) is type(wrong):
                continue
            inside[place[-1]] = wrong
            (mine / "submission.json").write_text(json.dumps(content))
            top = ".".join(map(str, place))
            told = [fault for fault in faults_of(mine, suite) if fault.startswith("submission.json: ")]
            named = [fault for fault in told if fault.startswith(f"submission.json: {place[0]}")]
            # What a policy reads and the track must go together: it is the track that is told of.
            assert named != told_anyway.get(place[0], []) or (place[-1], wrong) == ("privileged", True), (top, told)


TEXTS = [("name",), ("authors", 0), ("disclosures", "training"), ("disclosures", "code"), ("disclosures", "license")]
TRICKS = {
    "turned line": "abc\u202edef",
    "no width": "abc\u200bdef",
    "soft hyphen": "abc\u00addef",
    "colour": "abc\x1b[31mdef",
    "line break": "abc\r\ndef",
    "other spelling": "cafe\u0301",
    "wide letters": "\uff21\uff22\uff23",
    "private use": "abc\ue000",
    "no character": "abc\uffff",
    "element": "<img src=x>",
    "tag characters": "abc\U000e0041",
    "blank at the end": "abc ",
    "link": "[x](https://evil.example)",
    "too long": "a" * 5000,
}


@pytest.mark.parametrize("trick", TRICKS)
def test_no_text_is_other_than_it_looks(trick: str, mine: Path, suite: Suite) -> None:
    (mine / "episodes.jsonl.xz").unlink()
    for place in TEXTS:
        content = json.loads((mine / "submission.json").read_text())
        inside = content
        for name in place[:-1]:
            inside = inside[name]
        before, inside[place[-1]] = inside[place[-1]], TRICKS[trick]
        (mine / "submission.json").write_text(json.dumps(content))
        where = "submission.json: " + ".".join(map(str, place))
        assert any(fault.startswith(f"{where}: got") for fault in faults_of(mine, suite)), (place, trick)
        inside[place[-1]] = before
        (mine / "submission.json").write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["\u0410nn Example", "A\u0438n", "Ann <b>", "Ann 🦄", "Ann @home", "Ann/../x"])
def test_a_person_has_a_name_of_one_script(name: str, mine: Path, suite: Suite) -> None:
    change_manifest(mine, lambda one: one.update(authors=[name]))
    (fault,) = faults_of(mine, suite)
    assert fault.startswith("submission.json: authors.0: got ")


@pytest.mark.parametrize("name", ["王 小明", "Łukasz Żak", "Μαρία Νομικού", "O'Brien-Smith Jr.", "R2 Group 3"])
def test_names_of_any_script_are_taken(name: str, mine: Path, suite: Suite) -> None:
    change_manifest(mine, lambda one: one.update(authors=[name]))
    assert faults_of(mine, suite) == []
