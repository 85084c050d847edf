"""Making a submission: a policy runs a suite, and what it did is written down as a whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.evaluation.contestants import Contestant, find_contestants, never_resumed
from llmsched_gym.evaluation.episode import announce_episodes, find_policy, warm_up
from llmsched_gym.evaluation.runner import Progress, Silent
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.store import RunFolder
from llmsched_gym.evaluation.workers import run_tasks
from llmsched_gym.leaderboard import packing, recording, replaying
from llmsched_gym.leaderboard.drafting import Draft, check_draft, manifest, write_up
from llmsched_gym.leaderboard.episodes import Episode, write_episodes
from llmsched_gym.leaderboard.limits import RUNS, TOTAL_BYTES
from llmsched_gym.leaderboard.packaging import left_out, packaged
from llmsched_gym.leaderboard.recording import record_episode
from llmsched_gym.leaderboard.submission_folder import EPISODES, MANIFEST, WRITE_UP, file_digest
from llmsched_gym.policies.base import Policy
from llmsched_gym.suites.running import ProgressOf, check_digest
from llmsched_gym.suites.suite import Suite, SuiteScenario
from llmsched_gym.suites.verifying import drawn_digest
from llmsched_gym.workloads.files import make_folder, reason

Task = tuple[Setting, str, int]
"""Setting, policy, seed."""


def prepare(
    suite: Suite,
    policies: Sequence[str],
    draft: Draft,
    output: Path,
    workers: int | None = None,
    progress: ProgressOf | None = None,
    kept: Path | None = None,
) -> None:
    """Run a policy on a suite, and write a submission.

    Finished episodes are kept; with the same policy they are not run again.

    Args:
        suite: The suite.
        policies: Specs for `load_policy`, one per training run.
        draft: What is said of the submission.
        output: Its folder, which must not be there yet.
        workers: Processes; default: one per core.
        progress: Makes what is told how far a scenario is.
        kept: Where finished episodes are kept; default: `episodes_folder`.

    Raises:
        InputError: A policy cannot be loaded or handed in, what is said cannot stand so, or `output` is there.
        RunError: A policy raised an exception, or jobs are drawn otherwise here than when the suite was made.
    """
    if os.path.lexists(output):
        raise InputError(output, "", Plain("something that is there"), "a path where a new folder can be made")
    if len(policies) > RUNS:
        raise InputError("policies", "", Plain(f"{len(policies)} runs"), f"at most {RUNS}")
    contestants = find_contestants(policies)
    made = _of_one_kind(policies)
    specs, files = packaged(policies, contestants)
    check_draft(manifest(draft, suite, made, specs, dict.fromkeys(files, "")))
    episodes: list[Episode] = []
    for scenario in suite.scenarios:
        check_digest(suite, scenario, scenario.seeds[0], drawn_digest(scenario, scenario.seeds[0]))
        with (progress or _silent)(scenario.name) as told:
            episodes += _run(suite, scenario, contestants, kept or episodes_folder(output), workers, told)
            if rest := left_out(contestants, files):
                told.note(f"not part of the submission, so that it cannot be run again elsewhere: {', '.join(rest)}")
    files[EPISODES] = write_episodes(episodes)
    content = manifest(draft, suite, made, specs, {name: file_digest(one) for name, one in sorted(files.items())})
    files[MANIFEST] = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
    files[WRITE_UP] = write_up(draft, suite).encode()
    if (total := sum(map(len, files.values()))) > TOTAL_BYTES:
        raise InputError(output, "", Plain(f"{total} bytes in all"), f"at most {TOTAL_BYTES} bytes")
    _write(output, files)


def episodes_folder(output: Path) -> Path:
    """Return where finished episodes of a submission are kept, if nothing else is said: beside it."""
    return output.with_name(f"{output.name}.episodes")


def _silent(_: str) -> AbstractContextManager[Progress]:
    return nullcontext(Silent())


def _of_one_kind(policies: Sequence[str]) -> Policy:
    """Return the policy of the first run.

    Raises:
        InputError: Another run sees or does something else.
    """
    first, *others = map(find_policy, policies)
    for spec, other in zip(policies[1:], others, strict=True):
        for name in ("privileged", "observation", "placement"):
            if getattr(other, name) != getattr(first, name):
                raise InputError(f"policy {spec}", name, getattr(other, name), f"{getattr(first, name)}, as run 0")
    return first


def _run(
    suite: Suite,
    scenario: SuiteScenario,
    contestants: Sequence[Contestant],
    folder: Path,
    workers: int | None,
    progress: Progress,
) -> list[Episode]:
    """Return the episodes of a scenario, by run and seed."""
    run = RunFolder(folder / scenario.name, scenario.setting.describe() | {"recorder": _recorder_digest()})
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    missing: list[Task] = []
    for one in contestants:
        if one.doubt:
            progress.note(never_resumed(one))
        for seed in scenario.seeds:
            kept = None if one.doubt else run.find(run.episode_file(one.spec, seed), one.source)
            if kept is None:
                missing.append((scenario.setting, one.spec, seed))
            else:
                found[one.spec, seed] = kept
    sources = {one.spec: one.source for one in contestants}
    if missing:
        run.claim()
        announce_episodes(scenario.setting, list(sources), workers)
        for spec in sources:
            warm_up(spec)
    progress.begin(len(missing) + len(found), len(found))
    processes = workers or os.cpu_count() or 1
    with closing(run_tasks(record_episode, missing, processes, lambda task: f"{task[1]}, seed {task[2]}")) as finished:
        for (_, spec, seed), result in finished:
            run.keep(run.episode_file(spec, seed), sources[spec], result)
            found[spec, seed] = result
            progress.advance(f"{spec}, seed {seed}: {scenario.metric} {result['metrics'][scenario.metric]:.2f} s")
    for (_, seed), result in found.items():
        check_digest(suite, scenario, seed, result["workload"])
    return [
        Episode.model_validate_json(json.dumps({"scenario": scenario.name, "run": number, **found[one.spec, seed]}))
        for number, one in enumerate(contestants)
        for seed in scenario.seeds
    ]


@lru_cache
def _recorder_digest() -> str:
    """Return a digest of the code that writes episodes down: results of a package do not depend on it, these do."""
    return file_digest(b"".join(Path(str(one.__file__)).read_bytes() for one in (packing, recording, replaying)))


def _write(output: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder with files, in one step."""
    make_folder(output.parent)
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir()
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        # Not onto an empty folder that has been made meanwhile, which POSIX would replace in silence.
        if os.path.lexists(output):
            raise InputError(output, "", Plain("something that is there"), "a path where a new folder can be made")
        os.rename(temporary, output)
    except OSError as error:
        raise InputError(output, "", reason(error), "a path where a folder can be made") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
