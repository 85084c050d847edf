"""The profiles in use by a process, and the beliefs about the jobs of one episode."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import is_not
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.cluster.state import ClusterState
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.profiler.bank import make_bank, make_workspace
from llmsched_gym.profiler.beliefs import BeliefRows, make_rows, refresh
from llmsched_gym.profiler.cache import make_cache
from llmsched_gym.profiler.features import JOB_NUMBERS, VARIABLE_NUMBERS, Inference, Prior, fill_prior
from llmsched_gym.profiler.layout import Layout, StateTables, lay_out_tasks, map_applications, state_tables
from llmsched_gym.profiler.profile import Profile
from llmsched_gym.profiler.store import check_template, list_profiles, load_profile, read_profile
from llmsched_gym.workloads.template import ApplicationTemplate
from llmsched_gym.workloads.workload import Workload


@dataclass(frozen=True)
class Profiler:
    """Profiles, ready for inference. Not for two threads at once.

    Attributes:
        profiles: By the name of their application, in the order of the bank.
        strict: Applications whose profile the user gave: if it does not fit, that is an error.
        inference: Their compiled form.
        states: Of all their variables.
    """

    profiles: dict[str, Profile]
    strict: frozenset[str]
    inference: Inference
    states: StateTables
    _mapped: list[tuple[tuple[Any, ...], Layout]] = field(default_factory=list, init=False, repr=False, compare=False)
    """The last applications of a workload, and how they map to the profiles; at most one entry."""

    def for_thread(self) -> Profiler:
        """Return a profiler with the same profiles, and scratch and cache of its own, for another thread."""
        shared = self.inference
        inference = shared._replace(
            work=make_workspace(shared.bank),
            cache=make_cache(shared.cache.keys.shape[1], shared.cache.values.shape[1]),
            key=shared.key.copy(),
            words=shared.words.copy(),
            unfinished=shared.unfinished.copy(),
        )
        return replace(self, inference=inference)

    def find(self, template: ApplicationTemplate) -> Profile | None:
        """Return the profile of an application; None if there is none for this version of it.

        Raises:
            InputError: The user gave one, and it is of another version.
        """
        profile = self.profiles.get(template.name)
        if profile is None:
            return None
        try:
            check_template(profile, template, f"profile of {template.name}")
        except InputError:
            if template.name in self.strict:
                raise
            return None
        return profile

    def layout(self, workload: Workload) -> Layout:
        """Map a workload to the profiles.

        What depends on its applications alone is kept for the next one, which most often has the same (not where times
        or tokens are scaled: these workloads have historical means of their own).

        Raises:
            InputError: A profile that the user gave is of another version of its application.
        """
        applications = *workload.templates, *workload.history
        known, mapped = self._mapped[0] if self._mapped else ((), None)
        if mapped is None or len(known) != len(applications) or any(map(is_not, known, applications)):
            order = {name: position for position, name in enumerate(self.profiles)}
            found = {
                app: (order[template.name], profile)
                for app, template in enumerate(workload.templates)
                if (profile := self.find(template)) is not None
            }
            mapped = map_applications(workload, found, self.inference.bank, self.states)
            self._mapped[:] = [(applications, mapped)]
        return lay_out_tasks(mapped, workload)


def make_profiler(profiles: Iterable[Profile], strict: Iterable[str] = ()) -> Profiler:
    """Prepare profiles, one per application; later ones replace earlier ones.

    Raises:
        InputError: A profile lacks the variable of a stage.
    """
    known = {profile.application: profile for profile in profiles}
    ordered = list(known.values())
    for profile in ordered:
        missing = set(range(len(profile.nodes))) - {variable.node for variable in profile.variables}
        if missing:
            names = ", ".join(profile.nodes[node] for node in sorted(missing))
            raise InputError(
                f"profile of {profile.application}", "variables", Plain(f"none for {names}"), "one per stage"
            )
    bank = make_bank(ordered)
    n, widest = len(bank.states), max(len(profile.variables) for profile in ordered)
    inference = Inference(
        bank=bank,
        work=make_workspace(bank),
        cache=make_cache(widest, JOB_NUMBERS + VARIABLE_NUMBERS * widest),
        prior=Prior(np.zeros(n), np.zeros(n), np.zeros(n)),
        key=np.zeros(2 * widest, np.uint16),
        words=np.zeros(widest, np.uint32),
        unfinished=np.zeros(widest, np.uint16),
        nothing_s=np.zeros(widest),
    )
    fill_prior(inference)
    return Profiler(known, frozenset(strict), inference, state_tables(ordered))


@lru_cache
def shipped_profiler(time_scale: float = 1.0, token_divisor: int = 1) -> Profiler:
    """Return the profiler of the profiles that come with the package, for workloads that are scaled like this."""
    return make_profiler(load_profile(name).scaled(time_scale, token_divisor) for name in list_profiles())


def load_profiler(given: bool | str | Path, time_scale: float = 1.0, token_divisor: int = 1) -> Profiler | None:
    """Find the profiles that an environment was asked to use.

    Args:
        given: True: those that come with the package. False: none. A folder: its ``*.json`` files, and for other
            applications those of the package.
        time_scale: Regular tasks of the workload are that many times as fast as those that were profiled.
        token_divisor: Prompts and outputs of the workload are divided by it.

    Raises:
        InputError: The folder is not there or holds no profile, or a file is not one.
    """
    if isinstance(given, bool):
        return shipped_profiler(time_scale, token_divisor) if given else None
    folder = Path(given)
    files = sorted(folder.glob("*.json"))
    if not files:
        raise InputError("environment", "profiler", str(given), "True, False, or a folder with profiles (*.json)")
    own = [read_profile(path) for path in files]
    shipped = (load_profile(name) for name in list_profiles())
    profiles = [profile.scaled(time_scale, token_divisor) for profile in (*shipped, *own)]
    return make_profiler(profiles, {profile.application for profile in own})


class EpisodeBeliefs:
    """What a profiler says about the jobs of one episode.

    Attributes:
        rows: All that is written.
        layout: How the jobs map to the profiles; the backend fills ``layout.tokens``.

    Args:
        profiler: The profiles.
        workload: The jobs of the episode.
        soft_evidence: Whether running stages are evidence.

    Raises:
        InputError: A profile that the user gave is of another version of its application.
    """

    def __init__(self, profiler: Profiler, workload: Workload, soft_evidence: bool) -> None:
        self.layout = profiler.layout(workload)
        self.rows = make_rows(self.layout, workload)
        self._profiler, self._soft = profiler, soft_evidence

    @property
    def jobs(self) -> NDArray[Any]:
        """`BELIEF` rows."""
        return self.rows.jobs

    @property
    def stages(self) -> NDArray[Any]:
        """`STAGE_BELIEF` rows."""
        return self.rows.stages

    @property
    def arguments(self) -> tuple[Inference, Layout, bool, BeliefRows]:
        """Arguments of `beliefs.refresh` after the state."""
        return self._profiler.inference, self.layout, self._soft, self.rows

    def arrays(self) -> list[NDArray[Any]]:
        """Return the arrays that belong to this episode alone."""
        return [*self.rows, self.layout.work_ns, self.layout.tokens]

    def move(self, place: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        """Move them to where `place` copies them."""
        *rows, work_ns, tokens = map(place, self.arrays())
        self.rows = BeliefRows(*rows)
        self.layout = self.layout._replace(work_ns=work_ns, tokens=tokens)

    def refresh(self, state: ClusterState) -> None:
        """Bring the beliefs of all jobs in the system up to date."""
        refresh(state, *self.arguments)

    def counts(self) -> dict[str, int]:
        """Return how often what happened.

        Returns:
            ``unprofiled_jobs``; ``belief_updates`` and, of these, ``unseen_evidence``: the profile held what was seen
            for impossible, so that part of it was given up.
        """
        names = "unprofiled_jobs", "belief_updates", "unseen_evidence"
        return dict(zip(names, map(int, self.rows.counts), strict=True))
