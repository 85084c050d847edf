"""Set packing: which candidates of a frontier are chosen together, greedily or by CP-SAT.

A candidate places the tasks of one ready stage on one or more executors. In a world without batches an executor would
be in at most one of those that are chosen. Here an executor takes many tasks of one model, so that what excludes each
other is

- two candidates of one stage;
- on one executor, two models: it has one active model at a time, and another only after it is drained;
- on one executor, more tasks than it has room for.

What is gained or lost by an executor taking up a model at all is counted once (`Packing.opening`), however many
candidates share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.extras import install_hint

SOLVER: Final = {
    "num_workers": 1,
    "random_seed": 0,
    "max_deterministic_time": 0.05,
    "cp_model_presolve": False,
    "linearization_level": 2,
}
"""Settings of CP-SAT. One worker and a limit in operations, not in seconds, repeat on one machine. The linear
relaxation of a packing is nearly whole, and problems of this size gain less by presolving than it takes."""


MOST_SOLVED: Final = 1400
"""Candidates times executors that the solver gets at once: with more, its time grows far beyond that of all else."""


@dataclass(frozen=True)
class Packing:
    """A problem: C candidates on E executors, M models. Values are whole milliseconds.

    Attributes:
        stage: int (C,). Which stage a candidate places, ascending.
        value: int64 (C,). What it is worth.
        model: int (C, E). The model that it asks of each of its executors; -1 for other executors.
        tasks: int (C, E). How many tasks it starts on each of them now; 0 for one that it waits for.
        room: int (E,). How many tasks each executor may start now.
        opening: int64 (E, M). What is gained by an executor taking up a model, once.
    """

    stage: NDArray[np.int64]
    value: NDArray[np.int64]
    model: NDArray[np.int64]
    tasks: NDArray[np.int64]
    room: NDArray[np.int64]
    opening: NDArray[np.int64]

    def opened(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the model that each executor takes up, int (E,): -1 for none."""
        return self.model[chosen].max(axis=0, initial=-1)

    def objective(self, chosen: NDArray[np.bool_]) -> int:
        """Return what candidates are worth together."""
        opened = self.opened(chosen)
        used = np.flatnonzero(opened >= 0)
        return int(self.value[chosen].sum() + self.opening[used, opened[used]].sum())

    def is_feasible(self, chosen: NDArray[np.bool_]) -> bool:
        """Tell whether candidates may be chosen together."""
        model = self.model[chosen]
        one_model = (model < 0) | (model == self.opened(chosen))
        fits = self.tasks[chosen].sum(axis=0) <= self.room
        return bool(one_model.all() and fits.all() and np.bincount(self.stage[chosen], minlength=1).max() <= 1)


def pack_greedily(packing: Packing, start: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Choose by density: whatever still fits and is worth most per executor, one after another.

    Ties go to the first candidate.

    Args:
        packing: The problem.
        start: bool (C,). What is chosen already; by default nothing.

    Returns:
        bool (C,): which candidates are chosen.
    """
    chosen = np.zeros(len(packing.stage), np.bool_) if start is None else start.copy()
    uses = packing.model >= 0
    gains = np.where(uses, packing.opening[np.arange(len(packing.room)), packing.model], 0)
    size = np.maximum(uses.sum(axis=1), 1)
    opened = packing.opened(chosen)
    taken = opened >= 0
    room = packing.room - packing.tasks[chosen].sum(axis=0)
    left = (packing.tasks <= room).all(axis=1) & ~np.isin(packing.stage, packing.stage[chosen])
    left &= ~(uses & taken & (packing.model != opened)).any(axis=1)
    gains[:, taken] = 0  # who is left asks for the same models there
    worth = (packing.value + gains.sum(axis=1)) / size
    while left.any():
        best = int(np.where(left, worth, -np.inf).argmax())
        if worth[best] <= 0:
            break
        chosen[best] = True
        mine = uses[best]
        room -= packing.tasks[best]
        left &= packing.stage != packing.stage[best]
        left &= ~(uses & mine & (packing.model != packing.model[best])).any(axis=1)
        left &= (packing.tasks <= room).all(axis=1)
        gains[:, mine] = 0
        worth = (packing.value + gains.sum(axis=1)) / size
    return chosen


def pack_obviously(packing: Packing) -> NDArray[np.bool_] | None:
    """Choose the best of each stage, if these fit together and nothing else could be better; else None.

    Each stage is judged as if it alone had to open its executors where that costs, and did not where that pays. If both
    come to the same for what is chosen, it is the optimum.
    """
    uses = packing.model >= 0
    gains = np.where(uses, packing.opening[np.arange(len(packing.room)), packing.model], 0)
    alone = packing.value + gains.sum(axis=1)
    single = packing.stage[0] == packing.stage[-1]
    bound = alone if single else packing.value + np.maximum(gains, 0).sum(axis=1)
    starts = np.flatnonzero(np.diff(packing.stage, prepend=-1))
    highest = np.maximum.reduceat(bound, starts)
    which = np.cumsum(np.diff(packing.stage, prepend=packing.stage[0]) != 0)
    best = np.flatnonzero(bound == highest[which])
    first = best[np.diff(packing.stage[best], prepend=-1) != 0]
    first = first[bound[first] > 0]
    chosen = np.zeros(len(alone), np.bool_)
    chosen[first] = True
    if packing.is_feasible(chosen) and packing.objective(chosen) == np.maximum(highest, 0).sum():
        return chosen
    return None


def need_ortools(policy: str) -> Any:
    """Return the module of CP-SAT.

    Args:
        policy: Name of the policy that needs it, for the message.

    Raises:
        InputError: OR-Tools is not installed.
    """
    try:
        return import_module("ortools.sat.python.cp_model")
    except ImportError as error:
        allowed = f"OR-Tools to be installed: {install_hint('plan')}; or planner=greedy"
        raise InputError(f"policy {policy}", "planner", Plain(f"cpsat without OR-Tools ({error})"), allowed) from error


def pack_optimally(packing: Packing, cp_model: Any, most: int | None = None) -> NDArray[np.bool_] | None:
    """Choose by CP-SAT.

    Between equal objectives, earlier candidates win: each value is scaled by more than all that the ties add. If there
    are more candidates than the solver is quick with, it gets the first stages, the others are packed greedily around
    what it chooses, and a greedy packing of all is kept if it is better.

    Args:
        packing: The problem.
        cp_model: What `need_ortools` returned.
        most: Candidates that the solver gets, up to those of one stage more; default: by `MOST_SOLVED`.

    Returns:
        bool (C,): which candidates are chosen; None if the solver found no solution within its limit.
    """
    executors = packing.model.shape[1]
    if most is None:
        most = max(MOST_SOLVED // int((packing.model >= 0).any(axis=0).sum()), 1)
    n = int(np.searchsorted(packing.stage, packing.stage[min(most, len(packing.stage)) - 1], side="right"))
    scale = n * n + 1
    model = cp_model.CpModel()
    take = [model.new_bool_var("") for _ in range(n)]
    weights = (packing.value[:n] * scale + np.arange(n, 0, -1)).tolist()
    terms, coefficients = list(take), list(weights)
    for rows in np.split(np.arange(n), np.flatnonzero(np.diff(packing.stage[:n])) + 1):
        model.add_at_most_one([take[c] for c in rows.tolist()])
    for e in range(executors):
        users = np.flatnonzero(packing.model[:n, e] >= 0)
        asked = np.unique(packing.model[users, e]).tolist()
        opening = packing.opening[e]
        opened = []
        for m in asked:
            gain = int(opening[m])
            if len(asked) == 1 and gain == 0:
                continue
            opens = model.new_bool_var("")
            opened.append(opens)
            group = users[packing.model[users, e] == m]
            for rows in np.split(group, np.flatnonzero(np.diff(packing.stage[group])) + 1):
                model.add_at_most_one([take[c] for c in rows.tolist()] + [opens.negated()])  # none without opening
            if gain > 0:
                model.add_bool_or([take[c] for c in group.tolist()] + [opens.negated()])
            if gain:
                terms.append(opens)
                coefficients.append(gain * scale)
        if len(opened) > 1:
            model.add_at_most_one(opened)
        tasks = packing.tasks[users, e]
        if tasks.sum() > packing.room[e]:
            model.add(
                cp_model.LinearExpr.weighted_sum([take[c] for c in users], tasks.tolist()) <= int(packing.room[e])
            )
    model.maximize(cp_model.LinearExpr.weighted_sum(terms, coefficients))
    solver = cp_model.CpSolver()
    for name, setting in SOLVER.items():
        setattr(solver.parameters, name, setting)
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    chosen = np.zeros(len(packing.stage), np.bool_)
    chosen[:n] = [solver.boolean_value(one) for one in take]
    if n == len(chosen):
        return chosen
    return max(pack_greedily(packing, chosen), pack_greedily(packing), key=packing.objective)
