"""Episodes that were not played so are refused, with a line that names the first thing wrong."""

from __future__ import annotations

import lzma
import re
from pathlib import Path

import pytest
from submissions import (
    LARGE_DICTIONARY,
    LINE,
    WHERE,
    ZEROS,
    Attack,
    archive,
    faults_of,
    first_line,
    flip_action,
    lines_of,
    nest,
    played,
    swap_actions,
)

from llmsched_gym.leaderboard.limits import LINE_BYTES
from llmsched_gym.suites.suite import Suite

ATTACKS: dict[str, tuple[Attack, str]] = {
    "changed metric": (
        played(lambda all_: nest(all_[0], "metrics", "mean_jct_s", value=1.5)),
        WHERE + r"metrics.mean_jct_s: got 1.5; expected [\d.]+, as replayed",
    ),
    "metric in its last digit": (
        played(lambda all_: nest(all_[0], "metrics", "makespan_s", value=all_[0]["metrics"]["makespan_s"] + 1e-9)),
        WHERE + r"metrics.makespan_s: got .* as replayed",
    ),
    "metric left out": (
        played(lambda all_: all_[0]["metrics"].pop("p99_jct_s")),
        WHERE + r"metrics.p99_jct_s: got nothing; expected [\d.]+",
    ),
    "metric of its own": (
        played(lambda all_: nest(all_[0], "metrics", "glory", value=1.0)),
        WHERE + "metrics.glory: got 1.0; expected no such metric",
    ),
    "metric without a value": (
        played(lambda all_: nest(all_[0], "metrics", "mean_jct_s", value=None)),
        WHERE + "metrics.mean_jct_s: got nothing; .*as replayed",
    ),
    "episode left out": (
        played(lambda all_: all_.pop(1)),
        "episodes.jsonl.xz: crowd, run 0: got no episode of seed 8; expected all seeds of the suite",
    ),
    "all episodes left out": (
        played(lambda all_: all_.clear()),
        r"(.*: (crowd|plans), run 0: got no episode of seed 7, 8; expected all seeds of the suite\n?){2}",
    ),
    "episode twice in place of another": (
        played(lambda all_: all_.__setitem__(1, all_[0])),
        r"episodes.jsonl.xz: line 2: episode: got crowd, run 0, seed 7 again \(line 1\); .*\n.*no episode of seed 8.*",
    ),
    "episode more": (
        played(lambda all_: all_.append(all_[0])),
        "episodes.jsonl.xz: got more than 4 lines; expected one line per episode",
    ),
    "other seed": (
        played(lambda all_: all_[0].update(seed=9)),
        LINE + r"episode: got crowd, run 0, seed 9; .*\n.*crowd, run 0: got no episode of seed 7;.*",
    ),
    "seeds exchanged": (
        played(lambda all_: (all_[0].update(seed=8), all_[1].update(seed=7))),
        r"(.*crowd, run 0, seed [78]: workload: got '\w+'; expected \w+, that of the suite\n?){2}",
    ),
    "seed and jobs of another episode": (
        played(lambda all_: all_[0].update(seed=8, workload=all_[1]["workload"]) or all_.pop(1)),
        r".*(diverged at decision 256 of crowd, seed 8|unfinished).*\n.*no episode of seed 7;.*",
    ),
    "unknown scenario": (
        played(lambda all_: all_[2].update(scenario="plan")),
        r".*line 3: episode: got plan, run 0, seed 7; .*\n.*plans, run 0: got no episode of seed 7;.*",
    ),
    "unknown run": (
        played(lambda all_: all_[2].update(run=1)),
        r".*line 3: episode: got plans, run 1, seed 7; expected .* runs below 1\n.*",
    ),
    "actions of another episode": (
        played(swap_actions),
        WHERE + "diverged at decision 256 of crowd, seed 7 .*checkpoint: got '?[0-9a-f]+'?; expected [0-9a-f]+",
    ),
    "one action": (
        played(lambda all_: flip_action(all_, 300)),
        WHERE + r"(diverged at decision 512 of crowd, seed 7 \(the same up to decision 256\)|.*finished).*",
    ),
    "actions cut off": (
        played(lambda all_: all_[2].update(actions=all_[2]["actions"][:-2], decisions=all_[2]["decisions"] - 1)),
        r".*plans, run 0, seed 7: actions: got \d+, after which jobs are unfinished; expected all up to the end",
    ),
    "actions behind the end": (
        played(lambda all_: all_[2].update(actions=all_[2]["actions"] + "00", decisions=all_[2]["decisions"] + 1)),
        r".*plans, run 0, seed 7: actions: got \d+; expected \d+, after which all jobs are finished",
    ),
    "another number of decisions": (
        played(lambda all_: all_[0].update(decisions=all_[0]["decisions"] + 1)),
        WHERE + r"decisions: got \d+; expected \d+, the number of its actions",
    ),
    "half an action": (
        played(lambda all_: all_[2].update(actions=all_[2]["actions"][:-1])),
        r".*plans, run 0, seed 7: actions: got \d+ characters that begin with 'b.*",
    ),
    "wrong digest": (
        played(lambda all_: all_[2].update(digest="0" * 32)),
        r".*diverged after decision 0 of plans, seed 7: digest: got 0{32}; expected \w+",
    ),
    "wrong checkpoint": (
        played(lambda all_: all_[0]["checkpoints"].__setitem__(0, "0" * 16)),
        WHERE + r"diverged at decision 256 of crowd, seed 7 .*: got 0{16}; .*",
    ),
    "checkpoint left out": (
        played(lambda all_: all_[0]["checkpoints"].pop()),
        WHERE + r"checkpoints: got \d; expected \d, one per 256",
    ),
    "wrong jobs": (
        played(lambda all_: all_[0].update(workload="0" * 32)),
        WHERE + r"workload: got '0{32}'; expected \w{32}, that of the suite",
    ),
    "NaN": (
        played(lambda all_: nest(all_[0], "metrics", "mean_jct_s", value=float("nan"))),
        LINE + r"metrics.mean_jct_s: got nan; expected a number\n.*no episode of seed 7.*",
    ),
    "infinity": (
        played(lambda all_: nest(all_[0], "metrics", "mean_jct_s", value=float("-inf"))),
        LINE + r"metrics.mean_jct_s: got -inf; expected a number\n.*",
    ),
    "number that is too large": (
        first_line(lambda line: re.sub(rb'"mean_jct_s":[\d.]+', b'"mean_jct_s":1e999', line)),
        LINE + r"metrics.mean_jct_s: got inf; expected a number\n.*",
    ),
    "number of five thousand digits": (
        first_line(lambda line: line.replace(b'"run":0', b'"run":' + b"1" * 5000)),
        LINE + r"line 1: got a number of too many digits; expected a JSON object\n.*",
    ),
    "number of four hundred digits": (
        first_line(lambda line: re.sub(rb'"mean_jct_s":[\d.]+', b'"mean_jct_s":' + b"9" * 400, line)),
        LINE + r"metrics.mean_jct_s: got a number of about 40[01] digits; expected a number\n.*",
    ),
    "text for a number": (
        played(lambda all_: all_[0].update(decisions=str(all_[0]["decisions"]))),
        LINE + r"decisions: got '\d+'; expected a whole number.*\n.*",
    ),
    "truth value for a number": (
        played(lambda all_: all_[0].update(run=False)),
        LINE + r"run: got False; expected a whole number.*\n.*",
    ),
    "a key twice in an episode": (
        first_line(lambda line: line.replace(b'"run":0', b'"run":0,"run":0')),
        LINE + r"line 1: got 'run' twice; expected every key once in an object\n.*",
    ),
    "a key twice, once escaped": (
        first_line(lambda line: line.replace(b'"run":0', b'"run":0,"r\\u0075n":0')),
        LINE + r"line 1: got 'run' twice; .*\n.*",
    ),
    "field more in an episode": (
        played(lambda all_: all_[0].update(note="x")),
        LINE + r"note: got 'x'; expected no such field, .*\n.*",
    ),
    "nested a thousand times": (
        first_line(lambda _: b'{"a":' * 100_000 + b"\n"),
        LINE + r"line 1: got values nested too deeply; .*\n.*",
    ),
    "a line that is no JSON": (first_line(lambda _: b"(1)\n"), LINE + r".*got no JSON .*\n.*"),
    "a list in place of an episode": (first_line(lambda _: b"[]\n"), LINE + r".*got \[\]; expected a mapping\n.*"),
    "byte order mark in a line": (
        first_line(lambda line: b"\xef\xbb\xbf" + line),
        LINE + r"got a byte order mark; .*\n.*",
    ),
    "bomb": (
        archive(ZEROS),
        f"episodes.jsonl.xz: line 1: got more than {LINE_BYTES} bytes; .*\n(.*no episode.*\n?){{2}}",
    ),
    "archive of gzip": (
        archive(b"\x1f\x8b" + bytes(100)),
        r"episodes.jsonl.xz: got no such archive \(.*\); expected an xz archive.*\n(.*no episode.*\n?){2}",
    ),
    "archive cut off": (
        lambda folder: archive((folder / "episodes.jsonl.xz").read_bytes()[:-20])(folder),
        r"episodes.jsonl.xz: got an archive without its end; .*(\n.*no episode.*)*",
    ),
    "archive damaged": (
        lambda folder: archive(ZEROS[:200] + bytes([ZEROS[200] ^ 255]) + ZEROS[201:])(folder),
        r"episodes.jsonl.xz: .*(\n.*no episode.*){2}",
    ),
    "more behind the archive": (
        lambda folder: archive((folder / "episodes.jsonl.xz").read_bytes() + b"MZ")(folder),
        "episodes.jsonl.xz: got 2 bytes behind the archive; .*",
    ),
    "archive that needs much memory": (
        archive(lzma.compress(b"{}\n", filters=LARGE_DICTIONARY)),
        r"episodes.jsonl.xz: got no such archive \(Memory usage limit exceeded\); .*(\n.*no episode.*){2}",
    ),
    "archive replaced without its digest": (
        lambda folder: (folder / "episodes.jsonl.xz").write_bytes(lzma.compress(b"".join(lines_of(folder)), preset=0)),
        r"episodes.jsonl.xz: digest: got '\w{32}'; expected \w{32}, as submission.json says",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_by_name(name: str, mine: Path, suite: Suite) -> None:
    attack, expected = ATTACKS[name]
    attack(mine)
    faults = faults_of(mine, suite)
    assert faults
    assert re.fullmatch(expected, "\n".join(faults)), "\n".join(faults)
