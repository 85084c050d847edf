"""Two workloads small enough to schedule by hand, with their best schedules derived.

Both need this cluster: one LLM executor with ``max_num_seqs = 1`` whose iterations take 1 s each whatever they hold
(a = 1 s, b = c = d = 0), so that an LLM task with k output tokens takes k seconds; and one regular executor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from llmsched_gym.workloads.applications.base import Application
from llmsched_gym.workloads.assemble import Part, assemble
from llmsched_gym.workloads.block import JobBlock, blank_block
from llmsched_gym.workloads.history import compute_history
from llmsched_gym.workloads.template import ApplicationTemplate, StageKind, TemplateNode
from llmsched_gym.workloads.workload import Workload

ITERATION_S: Final = 1.0
"""Seconds per iteration of the LLM executor that both workloads need."""

TOY_OPTIMAL_MEAN_JCT_S: Final = 6.2
TWO_JOBS_SJF_MEAN_JCT_S: Final = 6.5
TWO_JOBS_INFORMED_MEAN_JCT_S: Final = 5.0

_SHORT_SHARE: Final = 0.6

_QUICK: Final = ApplicationTemplate(
    "quick",
    "predefined",
    (TemplateNode("answer", StageKind.LLM), TemplateNode("store", StageKind.REGULAR, ("answer",))),
)
_THOROUGH: Final = ApplicationTemplate(
    "thorough",
    "predefined",
    (TemplateNode("write", StageKind.LLM), TemplateNode("check", StageKind.REGULAR, ("write",))),
)
_CERTAIN: Final = ApplicationTemplate(
    "certain",
    "predefined",
    (TemplateNode("write", StageKind.LLM), TemplateNode("store", StageKind.REGULAR, ("write",))),
)
_UNCERTAIN: Final = ApplicationTemplate(
    "uncertain",
    "predefined",
    (TemplateNode("probe", StageKind.LLM), TemplateNode("solve", StageKind.LLM, ("probe",))),
)


def toy() -> Workload:
    """Five jobs of two applications, all present at time 0; the least mean JCT is 6.2 s.

    A ``quick`` job needs the LLM for 1 s, then the regular executor for 1 s; a ``thorough`` job 4 s, then 2 s. They
    stand in the order thorough, quick, thorough, quick, quick. Serving the LLM in order of shortest job:

    ========  ==========  ==========  =====
    job       LLM         regular     JCT
    ========  ==========  ==========  =====
    quick     0-1         1-2         2
    quick     1-2         2-3         3
    quick     2-3         3-4         4
    thorough  3-7         7-9         9
    thorough  7-11        11-13       13
    ========  ==========  ==========  =====

    Mean 31 / 5 = 6.2. Nothing is better: a job's JCT is at least the time at which the LLM finishes it plus its regular
    stage; shortest first minimises the sum of the former (Smith's rule), and here no regular stage waits, so the bound
    is met. First come first served gives (6 + 7 + 11 + 12 + 13) / 5 = 9.8.
    """
    jobs = [_part(_QUICK, [(1, 1)] * 3, turns=[1, 3, 4]), _part(_THOROUGH, [(4, 2)] * 2, turns=[0, 2])]
    return _with_history("toy", jobs, past=jobs)


def two_jobs() -> Workload:
    """A certain job and an uncertain one: SJF on historical means gives 6.5 s, running the informative stage first 5 s.

    In the spirit of the worked example of LLMSched (Zhu et al., ICDCS 2025), whose figure is not public; the jobs are
    ours. Both are present at time 0. The ``certain`` job needs the LLM for 5 s, then the regular executor for 1 s. The
    ``uncertain`` job first probes; a probe of 1 s tells that solving takes 1 s (6 of 10 jobs), one of 2 s that it takes
    12 s (4 of 10). Historically it takes 0.6 · 2 + 0.4 · 14 = 6.8 s against 6 s, so SJF (and SRTF) runs the certain job
    first. This one happens to be short:

    =============  ==========  ==========  ==========  ==========
    ..             SJF                     informative stage first
    -------------  ----------------------  ----------------------
    stage          start       finish      start       finish
    =============  ==========  ==========  ==========  ==========
    certain write  0           5           2           7
    certain store  5           6           7           8
    probe          5           6           0           1
    solve          6           7           1           2
    mean JCT       (6 + 7) / 2 = 6.5       (8 + 2) / 2 = 5
    =============  ==========  ==========  ==========  ==========

    After the probe's 1 s the posterior remaining time of the uncertain job is 1 s, against 6 s: it goes on. Had the
    probe taken 2 s, the certain job would go next: (8 + 19) / 2 = 13.5 against SJF's (6 + 19) / 2 = 12.5. Looking
    first thus gains 1.5 s in 6 of 10 cases and costs 1 s in 4: 0.5 s on average.
    """
    certain, uncertain = _part(_CERTAIN, [(5, 1)], turns=[0]), _part(_UNCERTAIN, [(1, 1)], turns=[1])
    past = _part(_UNCERTAIN, [(1, 1)] * 6 + [(2, 12)] * 4, turns=range(10))
    return _with_history("two_jobs", [certain, uncertain], past=[certain, past])


def _sample_uncertain(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw jobs of the uncertain application of `two_jobs`: short with probability 0.6."""
    short = rng.random(n) < _SHORT_SHARE
    return _pipeline(_UNCERTAIN, [(1, 1) if one else (2, 12) for one in short])


def _sample_certain(n: int, rng: np.random.Generator) -> JobBlock:
    """Draw jobs of the certain application of `two_jobs`; all are equal."""
    return _pipeline(_CERTAIN, [(5, 1)] * n)


TOY_APPLICATIONS: Final[dict[str, Application]] = {
    "certain": Application(_CERTAIN, (), _sample_certain),
    "uncertain": Application(_UNCERTAIN, (), _sample_uncertain),
}
"""The applications of `two_jobs` with samplers, so that a profile can be fitted to them."""


def _part(template: ApplicationTemplate, seconds: Sequence[tuple[int, ...]], turns: Sequence[int]) -> Part:
    """Jobs of one application that all arrive at 0, with their places in the queue."""
    return Part(template, 0, np.zeros(len(seconds), dtype=np.int64), _pipeline(template, seconds), np.array(turns))


def _with_history(name: str, jobs: Sequence[Part], past: Sequence[Part]) -> Workload:
    """Assemble `jobs`, with the historical means of the jobs `past`."""
    records = assemble(name, past)
    history = [compute_history(records, app) for app in range(len(past))]
    return assemble(name, jobs, history, provenance={"kind": "toy", "history": "self" if past is jobs else "past"})


def _pipeline(template: ApplicationTemplate, seconds: Sequence[tuple[int, ...]]) -> JobBlock:
    """Jobs whose stages follow each other, one task each, with the given whole seconds per stage."""
    n_slots = len(template.nodes)
    time = np.array(seconds, dtype=np.int64).reshape(-1, n_slots)
    llm = np.array([node.kind is StageKind.LLM for node in template.nodes])
    tokens = np.where(llm, time, 0)[:, :, None]
    block = blank_block(len(time), n_slots, 1)
    block.exists[:] = block.present[:] = True
    block.node[:] = np.arange(n_slots)
    block.parents[:] = np.eye(n_slots, k=-1, dtype=np.bool_)
    block.n_tasks[:] = 1
    block.prompt_tokens[:] = np.minimum(tokens, 1)
    block.output_tokens[:] = tokens
    block.duration_ns[:] = np.where(llm, 0, time * 1_000_000_000)[:, :, None]
    return block
