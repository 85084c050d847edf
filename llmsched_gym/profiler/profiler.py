"""The profiles in use by a process, and the beliefs about the jobs of one episode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import is_not
from pathlib import Path
from typing import Any

import numpy as np

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.profiler.bank import make_bank, make_workspace
from llmsched_gym.profiler.belief_state import Beliefs, new_beliefs
from llmsched_gym.profiler.cache import make_cache
from llmsched_gym.profiler.features import JOB_NUMBERS, VARIABLE_NUMBERS, Inference, Prior, fill_prior
from llmsched_gym.profiler.layout import Layout, lay_out_tasks, map_applications, state_tables
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
    """

    profiles: dict[str, Profile]
    strict: frozenset[str]
    inference: Inference
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
            mapped = map_applications(workload, found)
            self._mapped[:] = [(applications, mapped)]
        return lay_out_tasks(mapped, workload)

    def beliefs(self, workload: Workload) -> Beliefs:
        """Return what is believed of jobs of which nothing has been seen yet.

        Raises:
            InputError: A profile that the user gave is of another version of its application.
        """
        return new_beliefs(self.layout(workload), self.inference.bank.first_variable, workload)


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
    n, widest = len(bank.states), max((len(profile.variables) for profile in ordered), default=0)
    inference = Inference(
        bank=bank,
        work=make_workspace(bank),
        cache=make_cache(widest, JOB_NUMBERS + VARIABLE_NUMBERS * widest),
        prior=Prior(np.zeros(n), np.zeros(n), np.zeros(n)),
        states=state_tables(ordered, bank),
        key=np.zeros(2 * widest, np.uint16),
        words=np.zeros(widest, np.uint32),
        unfinished=np.zeros(widest, np.uint16),
        nothing_s=np.zeros(widest),
    )
    fill_prior(inference)
    return Profiler(known, frozenset(strict), inference)


@lru_cache
def shipped_profiler(time_scale: float = 1.0, token_divisor: int = 1) -> Profiler:
    """Return the profiler of the profiles that come with the package, for workloads that are scaled like this."""
    return make_profiler(load_profile(name).scaled(time_scale, token_divisor) for name in list_profiles())


@lru_cache
def no_profiler() -> Profiler:
    """Return one that knows no application: what environments without a profiler hand to compiled code."""
    return make_profiler(())


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
