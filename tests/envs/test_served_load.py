"""The KV blocks in use on a real server, as the client works them out, are those of an engine that does the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, event, example, given, settings
from numpy.typing import NDArray
from random_workloads import Case, cases

from llmsched_gym.backends.simulator import loop
from llmsched_gym.cluster.state import FAR, TaskStatus
from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.envs.served_episode import engine_load, measure_load
from llmsched_gym.envs.simulated_episode import SimulatedEpisode


def only_decodes(engine: Any, generated: NDArray[np.int32], now_ns: int) -> bool:
    """Whether an engine is in the middle of an iteration that decodes every request that it holds."""
    runs = engine["event_ns"] != FAR and engine["clock_ps"] < now_ns * 1000 and engine["event_ns"] > now_ns
    alone = engine["segment"] == 1 and engine["waiting_len"] == 0 and engine["running"] == engine["now"]["n_decode"]
    return bool(runs and alone and len(generated) > 0 and generated.min() > 0)


def is_all_shared(tasks: Any) -> bool:
    """Whether a whole prompt is of blocks that others may hold: who computes the last one, the client cannot know."""
    shared = np.maximum(tasks["app_prefix_tokens"], tasks["own_from"] * (tasks["own_from"] <= tasks["prompt_tokens"]))
    return bool(np.any(shared >= tasks["prompt_tokens"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(Case(seed=1, n_apps=1, n_jobs=4, n_stages=1, spread_ns=10**10, short_of_kv=True))  # recomputes
@given(cases())
def test_blocks_in_use_are_those_of_an_engine(case: Case) -> None:
    draft, cluster, _ = case.draw()
    workload = draft.assemble()
    env = SchedulingEnv("toy", workload=workload, cluster=cluster, profiler=False, max_candidates=None, max_jobs=None)
    _, info = env.reset(seed=0)
    load, shared = engine_load(cluster), np.zeros((cluster.n_executors, workload.contents.total), np.int32)
    generated, compared, over = np.zeros(len(workload.tasks), np.int32), 0, False
    while not over:
        episode = env.episode
        assert isinstance(episode, SimulatedEpisode)
        state, simulation = episode.state, episode.simulation
        engines = np.flatnonzero(state.executors["engine"] >= 0).tolist()
        for e in engines:
            loop.count_tokens(state, simulation, e, generated)
        measure_load(state, generated, load, shared, np.zeros(0, np.int32))
        for e in engines:
            engine = simulation.engines.rows[state.executors["engine"][e]]
            here = (state.tasks["executor"] == e) & (state.tasks["status"] == TaskStatus.RUNNING)
            if only_decodes(engine, generated[here], episode.now_ns) and not is_all_shared(state.tasks[here]):
                assert load["used_blocks"][e] / load["total_blocks"][e] == episode.kv_share(e)
                compared += 1
        _, _, over, _, info = env.step(int(info["action_mask"].argmax()))
    event(f"compared: {compared > 0}")
