"""The verbs ``leaderboard rerun`` and ``leaderboard key``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import tyro
from tyro.conf import Positional

from llmsched_gym.cli.console import EpisodeProgress, print_json, print_table, say
from llmsched_gym.cli.options import File, Json, Output, Range, optional
from llmsched_gym.errors import InputError, Plain

if TYPE_CHECKING:
    from llmsched_gym.leaderboard.rerunning import Seeds
    from llmsched_gym.leaderboard.verification import Verified
    from llmsched_gym.suites.suite import Suite


@dataclass(frozen=True)
class Rerun:
    """Run the policy of a submission again in a sandbox, on instances that it cannot know; write verified.json.

    Every episode has a process of its own, without network, files, environment variables or other programs. A decision
    that is late is the oldest legal dispatch instead, and is counted; after ten times the limit the process is ended,
    and the rest of its episode is decided so.

    Attributes:
        folder: The submission.
        instances: "sealed", or a JSON file that maps scenarios to lists of seeds.
        key: With sealed instances: file of the key.
        count: With sealed instances: how many per scenario.
        suite: Folder of the suite, if it does not come with the package.
        decision_s: Seconds per decision.
        memory_gib: Memory, GiB.
        as_json: Print one JSON object.
    """

    folder: Annotated[Positional[Path], tyro.conf.arg(metavar="DIR")]
    instances: Annotated[str, tyro.conf.arg(metavar="sealed|FILE")]
    key: File = None
    count: Annotated[int, Range(1, 1000)] = 10
    suite: Annotated[str | None, optional("FOLDER")] = None
    decision_s: Annotated[float, Range(0.001, 3600)] = 1.0
    memory_gib: Annotated[float, Range(0.5, 1024)] = 4.0
    as_json: Json = False

    def run(self) -> int:
        """Run it, write and print what it did."""
        from llmsched_gym.leaderboard.rerunning import rerun, write_verified
        from llmsched_gym.leaderboard.sandbox.launching import Limits, find_sandbox, mounts
        from llmsched_gym.leaderboard.sealing import check_apart, read_key
        from llmsched_gym.leaderboard.submission import load_submission
        from llmsched_gym.suites.suite import load_suite

        if (self.instances == "sealed") != (self.key is not None):
            raise InputError("--key", "", self.key, "a key with --instances sealed, and none with a file")
        find_sandbox()
        key = None if self.key is None else read_key(self.key)
        if self.key is not None:
            check_apart(self.key, mounts(self.folder))
        suite = load_suite(self.suite or load_submission(self.folder).suite)
        limits = Limits(decision_s=self.decision_s, memory_bytes=int(self.memory_gib * 2**30))
        with EpisodeProgress(within=self.folder.name) as progress:
            found = rerun(self.folder, suite, self._seeds(suite, key), key, limits, progress)
        write_verified(self.folder, found)
        if self.as_json:
            print_json(found.model_dump(mode="json"))
        else:
            _print(found, self.folder)
        return 0

    def _seeds(self, suite: Suite, key: bytes | None) -> Seeds:
        from llmsched_gym.leaderboard.sealing import sealed_seeds

        if key is not None:
            return {one.name: sealed_seeds(key, suite.name, one.name, self.count) for one in suite.scenarios}
        return _seeds_of_file(Path(self.instances), suite)


def _seeds_of_file(path: Path, suite: Suite) -> Seeds:
    from llmsched_gym.workloads.files import read_json
    from llmsched_gym.workloads.splits import check_seed

    what = "a JSON object: a list of seeds for every scenario of the suite"
    content = read_json(path, what)
    names = [one.name for one in suite.scenarios]
    if not isinstance(content, dict) or sorted(cast(dict[str, Any], content)) != sorted(names):
        raise InputError(path, "scenarios", content, f"{what}: {', '.join(names)}")
    found: dict[str, list[int]] = {}
    for name, seeds in cast(dict[str, Any], content).items():
        if not isinstance(seeds, list) or not seeds:
            raise InputError(path, name, seeds, "a list of seeds")
        found[name] = [check_seed(seed, f"{path}: {name}") for seed in cast(list[Any], seeds)]
    return found


def _print(found: Verified, folder: Path) -> None:
    rows = [
        (
            one.scenario,
            one.run,
            one.instance,
            one.metrics["mean_jct_s"],
            one.late,
            one.decision_us_p50,
            one.decision_us_p99,
        )
        for one in found.episodes
    ]
    columns = ("scenario", "run", "instance", "mean JCT s", "late", "P50 decision µs", "P99 decision µs")
    print_table(f"{folder.name}: {found.instances} instances of {found.suite}, {found.sandbox}", columns, rows)
    for one in found.episodes:
        if one.ended is not None:
            say(f"{one.scenario}, run {one.run}, instance {one.instance}: the policy ended: {one.ended}")
    say(f"written to {folder}/verified.json")


@dataclass(frozen=True)
class Key:
    """Make the key of sealed instances, publish what commits to it, or reveal it.

    Attributes:
        action: new: draw a key; publish: print its commitment; reveal: print the key, if it is that of a commitment.
        file: File of the key.
        commitment: With reveal: the commitment that was published.
        output: With publish and reveal: file to write to, too.
    """

    action: Annotated[Positional[Literal["new", "publish", "reveal"]], tyro.conf.arg(metavar="new|publish|reveal")]
    file: Annotated[Positional[Path], tyro.conf.arg(metavar="FILE")]
    commitment: Annotated[str | None, optional("TEXT")] = None
    output: Output = None

    def run(self) -> int:
        """Do it."""
        from llmsched_gym.evaluation.store import write_json
        from llmsched_gym.leaderboard.sealing import commitment, new_key, read_key

        if (self.action == "reveal") != (self.commitment is not None):
            given = Plain("nothing") if self.commitment is None else self.commitment
            raise InputError("--commitment", "", given, "the published commitment with reveal, nothing else")
        if self.action == "new":
            if self.output is not None:
                raise InputError("--output", "", self.output, "nothing: a new key goes to the file that is named")
            new_key(self.file)
            say(f"key: {self.file}; keep it secret, and keep a copy")
            return 0
        key = read_key(self.file)
        told = {"commitment": commitment(key)}
        if self.action == "reveal":
            if self.commitment != told["commitment"]:
                raise InputError("--commitment", "", self.commitment, f"{told['commitment']}, that of {self.file}")
            told["key"] = key.hex()
        if self.output is not None:
            write_json(self.output, told)
        for name, value in told.items():
            say(f"{name}: {value}")
        return 0
