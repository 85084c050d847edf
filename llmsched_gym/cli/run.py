"""The verb ``run``: one episode, looked at closely."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llmsched_gym.cli.console import note, print_json, print_table, say
from llmsched_gym.cli.options import File, Jobs, Json, Load, Output, Rate, Seed

if TYPE_CHECKING:
    from llmsched_gym.envs.scheduling_env import SchedulingEnv
    from llmsched_gym.evaluation.setting import Setting


@dataclass(frozen=True)
class Run:
    """Run one policy on the jobs of one seed: summary, Gantt chart and Perfetto trace.

    Attributes:
        scenario: Scenario name or YAML file.
        policy: Short name, module:factory or path.py:factory.
        seed: Seed of the eval split.
        jobs: Number of jobs; default: the scenario's.
        load: Offered work over capacity of the busiest pool of executors; default: the scenario's.
        rate: Jobs per second, instead of a load.
        cluster: YAML file of a cluster instead of the scenario's.
        workload: Workload file or job trace (.json) instead of drawn jobs.
        output: Folder for summary.json, gantt.png, gantt.pdf and trace.json (for ui.perfetto.dev); default: none is
            written.
        as_json: Print one JSON object.
    """

    writes: ClassVar = ("summary.json", "gantt.png", "trace.json")

    scenario: str = "mixed"
    policy: str = "fcfs"
    seed: Seed = 0
    jobs: Jobs = None
    load: Load = None
    rate: Rate = None
    cluster: File = None
    workload: File = None
    output: Output = None
    as_json: Json = False

    def run(self) -> int:
        """Run the episode and show what came of it."""
        from llmsched_gym.evaluation.report import hindsight, realised
        from llmsched_gym.export import render
        from llmsched_gym.user_code.containment import contained
        from llmsched_gym.user_code.ending import contain_exit
        from llmsched_gym.workloads.files import make_folder

        if self.output is not None:
            make_folder(self.output)
        with contained():
            setting, env, content = self._play()
        contain_exit()
        if self.output is not None:
            _write(env, content, self.output)
        if self.as_json:
            print_json(content)
            return 0
        for line in render.ansi(env.episode, env.workload).splitlines():
            say(line)
        print_table("", ("metric", "value"), content.items())
        for caution in (hindsight(content["history"]), realised(setting, [self.seed])):
            if caution:
                say(caution)
        if self.output is not None:
            written = "summary.json, gantt.png, gantt.pdf and trace.json"
            note(f"wrote {written} to {self.output}; open the trace at ui.perfetto.dev")
        return 0

    def _play(self) -> tuple[Setting, SchedulingEnv, dict[str, Any]]:
        """Return what was played, the environment after the episode, and what is told of it."""
        from llmsched_gym.evaluation.episode import announce_episodes, find_policy, make_env, play, warm_up
        from llmsched_gym.evaluation.metrics import episode_metrics
        from llmsched_gym.evaluation.setting import Setting

        policy = find_policy(self.policy)
        setting = Setting.make(self.scenario, self.jobs, self.load, self.rate, self.cluster, self.workload)
        announce_episodes(setting, [self.policy])
        warm_up(self.policy)
        env = make_env(setting, policy, self.seed)
        result, latencies_ns = play(env, policy, self.policy, self.seed)
        return (
            setting,
            env,
            {
                "scenario": setting.name,
                "policy": self.policy,
                "privileged": policy.privileged,
                "seed": self.seed,
                "jobs": setting.n_jobs,
                "load": setting.load,
                "history": setting.history,
                "realised_rates": setting.realised_rates([self.seed]),
                "workload_digest": env.workload.digest,
                **episode_metrics(result, [template.name for template in env.workload.templates], latencies_ns),
            },
        )


def _write(env: SchedulingEnv, content: dict[str, Any], folder: Path) -> None:
    from llmsched_gym.evaluation.store import write_json
    from llmsched_gym.export.gantt import gantt_figure
    from llmsched_gym.export.perfetto import write_trace

    state, workload = env.episode.state, env.workload
    write_json(folder / "summary.json", content)
    load = "" if content["load"] is None else f" at load {content['load']:g}"
    title = f"{content['policy']} on {content['scenario']}: {content['jobs']} jobs{load}, seed {content['seed']}"
    title += f"; mean JCT {content['mean_jct_s']:.2f} s"
    gantt_figure(state, workload, folder / "gantt.png", title)
    write_trace(state, workload, folder / "trace.json")
