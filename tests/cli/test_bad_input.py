"""Bad input: one clear line on standard error, exit code 2, no traceback, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hetero import LEAST

from llmsched_gym.cli import main

TINY = {"name": "tiny", "applications": {"web_search": 1}, "jobs": 3, "load": 0.5}
CLUSTER = {
    "name": "small",
    "executors": [
        {"kind": "llm", "latency": "llama-2-7b-h100", "model": "default", "kv_tokens": 20_000},
        {"kind": "regular", "count": 2},
    ],
}
TRACE = {
    "format": "llmsched-gym/job-trace",
    "version": 1,
    "applications": [
        {
            "name": "ask",
            "type": "predefined",
            "stages": [{"name": "find", "kind": "regular"}, {"name": "tell", "kind": "llm", "parents": ["find"]}],
        }
    ],
    "jobs": [
        {
            "application": "ask",
            "arrival_s": 0.0,
            "stages": [
                {"stage": "find", "tasks": [{"duration_s": 0.5}]},
                {"stage": "tell", "tasks": [{"prompt_tokens": 100, "output_tokens": 20}]},
            ],
        }
    ],
}
REQUESTS = "request_id,arrival_s,prompt_tokens,output_tokens\n0,0.0,100,10\n1,0.5,200,20\n"


class Files:
    """A folder with a good input of each kind, and ways to spoil them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"

    def left(self) -> set[Path]:
        """Return what lies there, but for what Python keeps of the files of Python that it was told to import."""
        return {path for path in self.folder.rglob("*") if "__pycache__" not in path.parts}

    def text(self, name: str, content: str) -> str:
        """Write a text file."""
        path = self.folder / name
        path.write_text(content)
        return str(path)

    def scenario(self, **changes: Any) -> str:
        """Write a scenario with some fields changed."""
        return self.text("scenario.yaml", yaml.safe_dump({**TINY, "cluster": CLUSTER, **changes}))

    def cluster(self, index: int = 0, **changes: Any) -> str:
        """Write a cluster with some fields of one group of executors changed."""
        groups = [dict(group) for group in CLUSTER["executors"]]
        groups[index].update(changes)
        return self.text("cluster.yaml", yaml.safe_dump({**CLUSTER, "executors": groups}))

    def models(self, **changes: Any) -> str:
        """Write a cluster whose executors serve several models, with some fields of theirs changed."""
        groups = [LEAST["executors"][0] | changes, LEAST["executors"][1]]
        return self.text("models.yaml", yaml.safe_dump({**LEAST, "executors": groups}))

    def trace(self, change: Callable[[Any], Any] = lambda trace: None) -> str:
        """Write a job trace, changed in place."""
        trace = json.loads(json.dumps(TRACE))
        change(trace)
        return self.text("trace.json", json.dumps(trace))

    def workload(self) -> Path:
        """Write a workload file."""
        path = self.folder / "jobs.workload"
        assert main(["workload", "convert", self.trace(), "-o", str(path)]) == 0
        return path

    def cut_workload(self) -> str:
        """Write the first half of a workload file."""
        path = self.workload()
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return str(path)

    def changed_workload(self) -> str:
        """Write a workload file whose jobs are not those of its digest."""
        return self._repacked("tasks.prompt_tokens.npy", lambda data: data[:-4] + b"\x07\0\0\0")

    def future_workload(self) -> str:
        """Write a workload file of a version to come."""
        return self._repacked("header.json", lambda data: data.replace(b'"version": 1', b'"version": 99'))

    def _repacked(self, member: str, change: Callable[[bytes], bytes]) -> str:
        path = self.workload()
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        content[member] = change(content[member])
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        return str(path)

    def policy(self, content: str) -> str:
        """Write a policy file."""
        return self.text("mine.py", content)


def compare(*words: str) -> Callable[[Files], list[str]]:
    """Return a comparison with these options."""
    return lambda files: ["compare", *words, "-o", str(files.out)]


def compare_scenario(**changes: Any) -> Callable[[Files], list[str]]:
    """Return a comparison on a scenario file with these fields."""
    return lambda files: ["compare", "--scenario", files.scenario(**changes), "-o", str(files.out)]


def replay(log: str, *words: str) -> Callable[[Files], list[str]]:
    """Return a replay of a log with these options."""
    return lambda files: ["engine", "replay", files.text("log.csv", log), "-o", str(files.out), *words]


def inspect_trace(change: Callable[[Any], Any]) -> Callable[[Files], list[str]]:
    """Return an inspection of a changed job trace."""
    return lambda files: ["workload", "inspect", files.trace(change)]


LINEAR = ("--coefficients", "6,0.02,0.03,0.0002")

CASES: dict[str, tuple[Callable[[Files], list[str]], str]] = {
    # words of the command line
    "no command": (lambda f: [], "expected one of calibrate, compare, compile, dataset, engine"),
    "unknown command": (lambda f: ["comapre"], "did you mean 'compare'"),
    "half a command": (lambda f: ["workload"], "expected one of convert, fit, generate, import, inspect"),
    "unknown half": (lambda f: ["latency", "lits"], "did you mean 'list'"),
    "unknown option": (compare("--polcies", "fcfs"), "'--polcies'; expected one of .*did you mean '--policies'"),
    "beginning of an option": (compare("--sce", "toy"), "'--sce'; .*did you mean '--scenario'"),
    "option without value": (lambda f: ["compare", "--jobs"], "--jobs: got nothing"),
    "text for a number": (compare("--jobs", "many"), "--jobs: got 'many'; expected a whole number"),
    "fraction for a whole number": (compare("--jobs", "2.5"), "--jobs: got '2.5'; expected a whole number"),
    "text for a seed": (lambda f: ["run", "--seed", "x"], "run: --seed: got 'x'; expected a whole number"),
    "fraction for a seed": (lambda f: ["run", "--seed=1.5"], "run: --seed: got '1.5'; expected a whole number"),
    "quote for a seed": (lambda f: ["run", "--seed", "it's"], '--seed: got "it\'s"; expected a whole number'),
    "text for a load": (lambda f: ["run", "--load", "x"], "--load: got 'x'; expected a number"),
    "text for a rate": (compare("--rate", "x"), "--rate: got 'x'; expected a number"),
    "text for a time scale": (compare("--time_scale", "x"), "--time-scale: got 'x'; expected a number"),
    "text for a required number": (
        lambda f: ["calibrate", "--server", "http://a", "--max-num-batched-tokens", "8", "--max-num-seqs", "x"],
        "--max-num-seqs: got 'x'; expected a whole number",
    ),
    "missing option": (lambda f: ["workload", "generate"], "--output PATH: got nothing"),
    "missing word": (lambda f: ["engine", "replay"], "REQUESTS: got nothing"),
    "word too many": (compare("fcfs"), "'fcfs'"),
    # values of options
    "seeds that are no numbers": (compare("--seeds", "a:b"), "--seeds: got 'a:b'; expected seeds as 0:10"),
    "empty range of seeds": (compare("--seeds", "5:5"), "--seeds: got '5:5'"),
    "negative seed": (compare("--seeds=-3"), "--seeds: got '-3'"),
    "digits of another script": (compare("--seeds", "٣"), "--seeds: got '٣'"),
    "seed twice": (compare("--seeds", "0:3,2"), "--seeds: got '0:3,2'; expected .*once"),
    "too many seeds": (compare("--seeds", "0:99999999"), "--seeds"),
    "load that is not a number": (compare("--load", "nan"), "--load: got 'nan'"),
    "negative load": (compare("--load=-0.5"), "--load: got '-0.5'"),
    "one bad load of several": (compare("--load", "0.5,high"), "--load: got '0.5,high'"),
    "load and rate": (compare("--load", "0.5", "--rate", "2"), "either a load or a rate"),
    "no jobs": (compare("--jobs", "0"), "jobs: got 0"),
    "timeout of servers on the simulator": (
        compare("--request-timeout-s", "-5"),
        r"--request-timeout-s: got -5\.0; expected a number > 0",
    ),
    "patience with servers on the simulator": (compare("--give-up-s", "9"), r"--give-up-s: got 9\.0; expected none"),
    "replies of servers on the simulator": (compare("--no-stream"), "--no-stream: got True; expected none"),
    "no workers": (compare("--workers", "0"), "--workers: got 0"),
    "jobs for a fixed workload": (compare("--scenario", "toy", "--jobs", "9"), "its workload is fixed"),
    "rate that never brings a job": (compare("--rate", "1e-300", "--jobs", "3"), "rate: got 1e-300"),
    "unknown split": (
        lambda f: ["workload", "generate", "--split", "test", "-o", str(f.out)],
        "split: got 'test'; expected one of eval, profile, train",
    ),
    "negative workload seed": (
        lambda f: ["workload", "generate", "--jobs", "3", "--seed=-1", "-o", str(f.out)],
        "seed: got -1",
    ),
    # names
    "unknown scenario": (compare("--scenario", "mixd"), "'mixd'; expected a YAML file, or .*did you mean 'mixed'"),
    "unknown policy": (compare("--policies", "fcfs,srft"), "'srft'; expected .*one of .*did you mean 'srtf'"),
    "policy twice": (compare("--policies", "fcfs,fcfs"), "names separated by commas, every one once"),
    "empty policy name": (compare("--policies", "fcfs,,sjf"), "--policies"),
    "policy file that is missing": (compare("--policies", "nowhere.py:Mine"), "nowhere.py.*exists"),
    "policy file without the class": (
        lambda f: compare("--policies", f.policy("class Mine: pass") + ":Mien")(f),
        "'Mien'; expected .*did you mean 'Mine'",
    ),
    "module without the factory": (
        compare("--policies", "math:flor"),
        r"'flor'; expected one of \d+ names, such as floor, (\w+(, )?){4}; did you mean 'floor'\?$",
    ),
    "class that is no policy": (
        lambda f: compare("--policies", f.policy("class Mine: pass") + ":Mine")(f),
        "a factory that returns",
    ),
    "policy file with a syntax error": (
        lambda f: compare("--policies", f.policy("class Mine(:") + ":Mine")(f),
        "mine.py.*a Python file that imports",
    ),
    "unknown policy parameter": (compare("--policies", "fcfs?speed=3"), "parameters"),
    "policy parameter twice": (compare("--policies", "llmsched?epsilon=0&epsilon=1"), "'epsilon'; .*once"),
    "unknown latency profile": (lambda f: ["latency", "show", "llama"], "'llama'"),
    # scenario and cluster files
    "scenario file that is missing": (compare("--scenario", "./nowhere.yaml"), "nowhere.yaml: got no such file"),
    "scenario that is not YAML": (
        lambda f: compare("--scenario", f.text("bad.yaml", "jobs: [1, 2\nload: 3"))(f),
        "bad.yaml: line 2",
    ),
    "key twice in a scenario": (
        lambda f: compare("--scenario", f.text("bad.yaml", "jobs: 1\njobs: 2\n"))(f),
        "bad.yaml: line 2: got 'jobs'; expected every key once",
    ),
    "scenario that is a list": (
        lambda f: compare("--scenario", f.text("bad.yaml", "- 1\n"))(f),
        r"got \[1\]; expected a scenario file: a mapping",
    ),
    "unknown field in a scenario": (compare_scenario(laod=0.5), "scenario.yaml: laod"),
    "load in a scenario that is not a number": (compare_scenario(load=float("nan")), "scenario.yaml: load"),
    "negative jobs in a scenario": (compare_scenario(jobs=-3), "scenario.yaml: jobs: got -3"),
    "unknown application": (compare_scenario(applications={"web_serch": 1}), "web_serch.*did you mean 'web_search'"),
    "unknown arrivals": (compare_scenario(arrivals={"kind": "posson"}), "scenario.yaml: arrivals"),
    "bad arrival parameter": (compare_scenario(arrivals={"kind": "gamma", "cv": -1}), "cv: got -1"),
    "arrival trace that is missing": (
        compare_scenario(arrivals={"kind": "trace", "path": "nowhere.csv", "format": "azure"}),
        "nowhere.csv",
    ),
    "cluster file that is missing": (compare("--cluster", "nowhere.yaml"), "nowhere.yaml"),
    "executor of an unknown kind": (lambda f: compare("--cluster", f.cluster(kind="gpu"))(f), "executors.0"),
    "no executors": (
        lambda f: compare("--cluster", f.text("c.yaml", "name: none\nexecutors: []\n"))(f),
        "c.yaml: executors",
    ),
    "cluster with an unknown latency profile": (
        lambda f: compare("--cluster", f.cluster(latency="llama-2-7b-h10"))(f),
        "did you mean 'llama-2-7b-h100'",
    ),
    "prompts longer than the KV cache": (
        lambda f: compare("--jobs", "3", "--seeds", "0", "--cluster", f.cluster(kv_tokens=64))(f),
        "kv_tokens: got 64; expected at least",
    ),
    "no executor for the tools": (
        lambda f: compare("--jobs", "3", "--seeds", "0", "--cluster", f.cluster(1, **CLUSTER["executors"][0]))(f),
        "executors",
    ),
    "model larger than its executor": (
        lambda f: compare("--cluster", f.models(memory_gb=0.5))(f),
        "models.yaml: executors.0.serves: got 1.00102 GB of weights and KV room of small; expected at most",
    ),
    "resident model that nobody knows": (
        lambda f: compare("--cluster", f.models(resident=["smal"]))(f),
        "models.yaml: executors.0.resident: got 'smal'; expected models that it serves: small",
    ),
    "applications without models on executors with several": (
        lambda f: compare("--jobs", "3", "--seeds", "0", "--cluster", f.models())(f),
        "cluster models: executors.serves: got no executor with model default",
    ),
    "executors with several models on real servers": (
        lambda f: compare("--cluster", f.models(), "--backend", "vllm", "--servers", "http://127.0.0.1:9")(f),
        "cluster models: executors: got executors that serve several models; expected one model per executor",
    ),
    # workload files and job traces
    "workload that is missing": (compare("--workload", "nowhere.workload"), "nowhere.workload"),
    "workload cut short": (lambda f: compare("--workload", f.cut_workload())(f), "cut short or changed"),
    "workload with a changed byte": (lambda f: compare("--workload", f.changed_workload())(f), "jobs.workload: digest"),
    "workload of another version": (lambda f: ["workload", "inspect", f.future_workload()], "version: got 99"),
    "workload that is text": (lambda f: ["workload", "inspect", f.text("x.workload", "hello")], "x.workload"),
    "number of jobs for a workload file": (
        lambda f: compare("--workload", str(f.workload()), "--jobs", "3")(f),
        "jobs: got 3; expected no value",
    ),
    "trace that is not JSON": (lambda f: ["workload", "inspect", f.text("t.json", "{")], "t.json"),
    "trace of another version": (inspect_trace(lambda t: t.update(version=7)), "version"),
    "negative duration": (
        inspect_trace(lambda t: t["jobs"][0]["stages"][0]["tasks"][0].update(duration_s=-1)),
        r"jobs\.0\.stages\.0\.tasks\.0\.duration_s: got -1",
    ),
    "duration that is not a number": (
        inspect_trace(lambda t: t["jobs"][0]["stages"][0]["tasks"][0].update(duration_s=float("nan"))),
        "duration_s",
    ),
    "no output tokens": (
        inspect_trace(lambda t: t["jobs"][0]["stages"][1]["tasks"][0].update(output_tokens=0)),
        "output_tokens: got 0",
    ),
    "job of an unknown application": (
        inspect_trace(lambda t: t["jobs"][0].update(application="aks")),
        "'aks'; expected .*'ask'",
    ),
    "unknown stage": (
        inspect_trace(lambda t: t["jobs"][0]["stages"][0].update(stage="fnd")),
        "'fnd'; expected .*'find'",
    ),
    "parent that does not exist": (
        inspect_trace(lambda t: t["applications"][0]["stages"][1].update(parents=["fnd"])),
        "fnd",
    ),
    "history for a workload file": (
        lambda f: ["workload", "convert", str(f.workload()), "-o", str(f.out), "--history", f.trace()],
        "--history",
    ),
    "measured data that is missing": (lambda f: ["workload", "fit", "--data", "nowhere", "-o", str(f.out)], "nowhere"),
    "measured data without a table": (
        lambda f: ["workload", "fit", "--data", str(f.folder), "-o", str(f.out)],
        "no such file",
    ),
    # engines and latency profiles
    "neither profile nor coefficients": (replay(REQUESTS), "either --coefficients A,B,C,D or --profile"),
    "three coefficients": (replay(REQUESTS, "--coefficients", "1,2,3"), "--coefficients: got '1,2,3'"),
    "negative coefficient": (replay(REQUESTS, "--coefficients", "1,2,3,-4"), "--coefficients"),
    "log without a column": (replay("arrival_s,prompt_tokens\n0,5\n", *LINEAR), "log.csv: header"),
    "log with a bad row": (replay(REQUESTS + "2,1.0,-5,3\n", *LINEAR), "log.csv, line 4: prompt_tokens: got '-5'"),
    "log with a cut row": (replay(REQUESTS + "2,1.0\n", *LINEAR), "log.csv, line 4"),
    "empty log": (replay("", *LINEAR), "log.csv"),
    "request longer than the KV cache": (replay(REQUESTS, *LINEAR, "--kv-blocks", "4"), "KV"),
    "engine without sequences": (replay(REQUESTS, *LINEAR, "--max-num-seqs", "0"), "--max-num-seqs: got 0"),
    "log with a column twice": (replay("arrival_s,arrival_s,prompt_tokens,output_tokens\n1,1,5,5\n", *LINEAR), "once"),
    "log with a value too many": (replay(REQUESTS + "2,1.0,5,3,9\n", *LINEAR), "log.csv, line 4: got more values"),
    "more sequences than an engine has rows for": (
        replay(REQUESTS, *LINEAR, "--max-num-seqs", "2000000000", "--max-num-batched-tokens", "2000000000"),
        "--max-num-seqs: got 2000000000; expected a whole number from 1 to",
    ),
    "more KV blocks than can be counted": (
        replay(REQUESTS, *LINEAR, "--kv-blocks", "99999999999999999999"),
        "--kv-blocks: got 99999999999999999999",
    ),
    "output that is a device": (
        lambda f: ["engine", "replay", f.text("log.csv", REQUESTS), "-o", os.devnull, *LINEAR],
        "a device or pipe",
    ),
    "budget below the sequences": (
        replay(REQUESTS, *LINEAR, "--max-num-batched-tokens", "8"),
        "max_num_batched_tokens",
    ),
    "profile cut short": (
        lambda f: ["latency", "show", f.text("p.json", '{"schema": 1, "name":')],
        "p.json: line 1",
    ),
    "profile of another version": (
        lambda f: ["latency", "show", f.text("p.json", json.dumps({"schema": 99, "name": "p"}))],
        "p.json",
    ),
    "table without a column": (
        lambda f: [
            *("latency", "fit", f.text("t.csv", "n_decode,prefill_tokens\n1,2\n")),
            *("--requests", f.text("l.csv", REQUESTS), "-o", str(f.out)),
        ],
        "t.csv",
    ),
    # outputs
    "trace that is nested too deeply": (
        lambda f: ["workload", "inspect", f.text("t.json", "[" * 100_000)],
        "nested too deeply",
    ),
    "output without a name": (lambda f: ["workload", "generate", "--jobs", "3", "-o", ""], "--output"),
    "results without a folder": (lambda f: ["compare", "--scenario", "toy", "-o", ""], "--output: got ''"),
    "output glued on and empty": (lambda f: ["run", "--scenario", "toy", "--output="], "--output: got ''"),
    "output below a file": (
        lambda f: ["workload", "generate", "--jobs", "3", "-o", f.text("file", "") + "/jobs.workload"],
        "file/jobs.workload",
    ),
    "output folder that cannot be made": (
        lambda f: ["compare", "--scenario", "toy", "--seeds", "0", "-o", "/proc/none/out"],
        "/proc/none/out.*a folder that can be written",
    ),
    "output folder that is a file": (
        lambda f: ["compare", "--scenario", "toy", "--seeds", "0", "-o", f.text("file", "")],
        "a folder for the results",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_told_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command, expected = CASES[name]
    files = Files(tmp_path)
    words = command(files)
    before = files.left()
    capsys.readouterr()
    assert main(words) == 2
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert told.out == ""
    assert len(lines) == 1, told.err
    assert lines[0].startswith("error: ")
    assert re.search(expected, lines[0]), lines[0]
    assert len(lines[0]) < 600
    assert files.left() == before, "something was left behind"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("raise RuntimeError('in the\\nmodule')", r"loading: RuntimeError: in the module \(mine.py, line 2\)"),
        ("import sys; sys.exit(3)", "loading: SystemExit: 3"),
        ("def Mine(): return 1 / 0", r"loading: ZeroDivisionError: .* \(mine.py, line 2\)"),
        ("class Mine(FCFS):\n  def act(self, obs): return 'x'", "decision 0: got 'x'; expected a whole number from 0"),
        ("class Mine(FCFS):\n  def act(self, obs): pass", "decision 0: got None; expected a whole number from 0 to 5"),
        ("class Mine(FCFS):\n  def act(self, obs): return 1.0", r"decision 0: got 1\.0; expected a whole number"),
        ("class Mine(FCFS):\n  def reset(self, info): info['none']", "reset: KeyError: 'none'"),
    ],
)
def test_failing_policy_is_told_in_one_line(
    content: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    files = Files(tmp_path)
    spec = files.policy(f"from llmsched_gym.policies.fcfs import FCFS\n{content}")
    assert main(["run", "--scenario", "toy", "--policy", f"{spec}:Mine"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    *notes, last = told.err.splitlines()
    assert re.fullmatch(rf"failed: policy .*mine.py:Mine, .*{expected}.*", last), told.err
    assert all(note.startswith("llmsched_gym: compil") for note in notes)


def test_there_are_enough_cases():
    assert len(CASES) >= 25


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tmp_path.chmod(0o500)
    assert main(["workload", "generate", "--jobs", "3", "-o", str(tmp_path / "jobs.workload")]) == 2
    assert "Permission denied" in capsys.readouterr().err
