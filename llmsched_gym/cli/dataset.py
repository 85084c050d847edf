"""The verb ``dataset``: episodes for offline reinforcement learning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from llmsched_gym.cli.console import EpisodeProgress, print_json, say
from llmsched_gym.cli.flags import parse_seeds
from llmsched_gym.cli.options import Jobs, Json, Load, Output, Range, Rate, Text

_Window = Annotated[int, Range(1, 100_000)]


@dataclass(frozen=True)
class Dataset:
    """Record episodes of a policy as a Minari dataset, for offline reinforcement learning.

    The dataset shows what gymnasium.make shows, whatever the policy sees: no truth, and a window of the size given.

    Attributes:
        scenario: Scenario name or YAML file.
        policy: Short name, module:factory or path.py:factory.
        seeds: Seeds of the split, as 0:10 (0 to 9), 0,3,7 or 5; one episode each.
        split: Split that jobs are drawn from; policies that learn are evaluated on eval.
        jobs: Number of jobs; default: the scenario's.
        load: Offered work over capacity of the busiest pool of executors; default: the scenario's.
        rate: Jobs per second, instead of a load.
        observation: What the dataset shows.
        window: Candidates and jobs that an observation has room for.
        name: Name of the dataset, which ends in -v and a number; default: llmsched/SCENARIO/POLICY-v0.
        output: Folder that datasets are kept in; default: Minari's.
        as_json: Print one JSON object.
    """

    scenario: str = "mixed"
    policy: str = "fcfs"
    seeds: str = "0:10"
    split: Literal["train", "eval"] = "train"
    jobs: Jobs = None
    load: Load = None
    rate: Rate = None
    observation: Literal["table", "graph"] = "table"
    window: _Window = 64
    name: Text = None
    output: Output = None
    as_json: Json = False

    def run(self) -> int:
        """Record the episodes and say where they are."""
        from llmsched_gym.evaluation.offline import Recording, check_minari, datasets_folder, record
        from llmsched_gym.evaluation.setting import Setting
        from llmsched_gym.user_code.containment import contained
        from llmsched_gym.user_code.ending import contain_exit

        check_minari()
        setting = replace(Setting.make(self.scenario, self.jobs, self.load, self.rate), split=self.split)
        recording = Recording(setting, self.policy, parse_seeds(self.seeds), self.observation, self.window)
        name, root = self.name or recording.default_name, self.output or datasets_folder()
        with EpisodeProgress() as progress, contained():
            written = record(recording, name, root, progress)
        contain_exit()
        if self.as_json:
            print_json(
                {
                    "name": name,
                    "folder": str(written.folder),
                    "episodes": written.episodes,
                    "decisions": written.decisions,
                    "megabytes": written.megabytes,
                    "mean_jct_s": written.mean_jct_s,
                }
            )
            return 0
        size = f"{written.decisions} decisions, {written.megabytes:.1f} MB, mean JCT {written.mean_jct_s:.2f} s"
        say(f"{name}: {written.episodes} episodes, {size}")
        say(f"MINARI_DATASETS_PATH={root} python -c \"import minari; minari.load_dataset('{name}')\"")
        return 0
