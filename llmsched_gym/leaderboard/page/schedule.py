"""One episode of an entry, carried out again so that it can be drawn."""

from __future__ import annotations

import numpy as np

from llmsched_gym._jit import bind
from llmsched_gym.backends.simulator import loop
from llmsched_gym.cluster.lifecycle import is_over
from llmsched_gym.cluster.state import ClusterState
from llmsched_gym.envs.outcome import digest
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.leaderboard.packing import unpack
from llmsched_gym.leaderboard.page.entries import Entry
from llmsched_gym.leaderboard.replaying import Shape, carry_out
from llmsched_gym.suites.suite import Suite
from llmsched_gym.workloads.workload import Workload


def replay_shown(entry: Entry, suite: Suite) -> tuple[ClusterState, Workload]:
    """Return the cluster at the end of the episode of an entry that is drawn, and its jobs.

    Raises:
        InputError: Its actions do not give the schedule that the entry claims.
    """
    episode = entry.shown
    setting = suite.scenario(episode.scenario).setting
    workload, cluster = setting.workload(episode.seed), setting.scenario.cluster
    where = f"{entry.folder}: {episode.scenario}, run {episode.run}, seed {episode.seed}"
    shape = Shape.of(workload, cluster, entry.submission.policy.placement)
    actions = np.ascontiguousarray(unpack(episode.actions, shape.actions))
    state, simulation = loop.start(workload, cluster)
    run = bind(carry_out, state, simulation, actions, others=(0, 0, shape.rows, shape.placements))
    try:
        run(0, 0, shape.rows, shape.placements)
        run(0, len(actions), shape.rows, shape.placements)
    except RuntimeError as error:
        raise InputError(where, "actions", Plain(f"some that cannot be carried out ({error})"), "a schedule") from None
    found = digest(state) if is_over(state) else Plain("unfinished jobs")
    if found != episode.digest:
        raise InputError(where, "digest", episode.digest, f"{found}, which its actions give: validate it")
    return state, workload
