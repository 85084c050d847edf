"""How the jobs of a workload map to profiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmsched_gym.cluster.initial import task_work_ns
from llmsched_gym.profiler.layout import lay_out_tasks, map_applications
from llmsched_gym.profiler.profiler import make_profiler, shipped_profiler
from llmsched_gym.scenario import load_scenario


def test_the_work_of_tasks_is_that_under_the_latency_of_their_applications_profile() -> None:
    profiler = shipped_profiler()
    workload = load_scenario("mixed").replaced(jobs=30).build("eval", 0)
    of_task = workload.jobs["app"][workload.stages["job"][workload.tasks["stage"]]]
    expected = np.zeros(len(workload.tasks), np.int64)
    found = {}
    for app, template in enumerate(workload.templates[:-1]):  # the last one has no profile
        profile = profiler.profiles[template.name]
        clock = replace(profile.latency, decode_ps=profile.latency.decode_ps * (1 + app % 2))
        found[app] = list(profiler.profiles).index(template.name), replace(profile, latency=clock)
        expected[of_task == app] = task_work_ns(workload.tasks[of_task == app], clock)
    mapped = map_applications(workload, found)
    layout = lay_out_tasks(mapped, workload)
    assert layout.work_ns.tolist() == expected.tolist()
    assert 0 < np.count_nonzero(expected) < len(expected)


def test_one_profiler_maps_workloads_of_different_applications_in_turn() -> None:
    shared = shipped_profiler()
    for scenario in ("mixed", "chain", "mixed", "chain", "chain"):
        workload = load_scenario(scenario).replaced(jobs=5).build("eval", 0)
        layout, own = shared.layout(workload), make_profiler(shared.profiles.values()).layout(workload)
        for name, found, expected in zip(layout._fields, layout, own, strict=True):
            assert found.tolist() == expected.tolist(), name
