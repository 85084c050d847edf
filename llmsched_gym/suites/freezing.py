"""Writing the files of a suite that are made, not by hand: digests of jobs, references, best known schedules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmsched_gym.evaluation.report import to_csv
from llmsched_gym.evaluation.runner import Progress, compare
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.evaluation.store import write_text
from llmsched_gym.suites.best_known import BEST_KNOWN, find_best_known, rows_of
from llmsched_gym.suites.running import ProgressOf
from llmsched_gym.suites.searching import ROLLOUTS
from llmsched_gym.suites.suite import REFERENCE, WORKLOADS, Suite, read_manifest, seeds_of


def freeze_workloads(folder: Path) -> int:
    """Draw the jobs of a manifest and write ``workloads.csv``; return how many there are.

    Raises:
        InputError: The manifest is not usable, or the file cannot be written.
    """
    manifest = read_manifest(folder)
    rows = []
    for entry in manifest.scenarios:
        setting = replace(Setting.make(entry.scenario, entry.jobs, entry.load), split=manifest.split)
        rows += [
            {"scenario": entry.name, "seed": seed, "workload_digest": setting.workload(seed).digest}
            for seed in seeds_of(manifest)
        ]
    write_text(folder / WORKLOADS, to_csv(rows))
    return len(rows)


def freeze_best_known(suite: Suite, workers: int, progress: Progress, rollouts: int = ROLLOUTS) -> int:
    """Search all instances and write ``best_known.csv``; return how many there are.

    Raises:
        InputError: An instance cannot be searched, or the file cannot be written.
    """
    known = find_best_known(suite, workers, progress, rollouts)
    write_text(suite.folder / BEST_KNOWN, to_csv([*rows_of(suite, known)]))
    return len(known)


def freeze_references(suite: Suite, results: Path, workers: int | None, progress: ProgressOf) -> int:
    """Run the references and write ``reference.csv``; return how many values there are.

    Args:
        suite: The suite.
        results: Where finished episodes are kept.
        workers: Processes; default: one per core.
        progress: Makes what is told how far a scenario is.

    Raises:
        InputError: A reference cannot be loaded, or a file cannot be written.
        RunError: A reference failed.
    """
    rows = []
    for scenario in suite.scenarios:
        with progress(scenario.name) as told:
            place = results / scenario.name
            comparison = compare(scenario.setting, [scenario.reference], scenario.seeds, place, workers, told)
        for seed in scenario.seeds:
            episode = comparison.episodes[scenario.reference, seed]
            rows.append(
                {
                    "scenario": scenario.name,
                    "seed": seed,
                    "workload_digest": episode["workload_digest"],
                    "policy": scenario.reference,
                    "metric": scenario.metric,
                    "value": episode["metrics"][scenario.metric],
                    "episode_digest": episode["metrics"]["episode_digest"],
                }
            )
    write_text(suite.folder / REFERENCE, to_csv(rows))
    return len(rows)
