"""Decima: a graph network, trained by policy gradients, that picks a stage and a limit of parallelism.

Source: Mao, Schwarzkopf, Venkatakrishnan, Meng and Alizadeh, "Learning Scheduling Algorithms for Data Processing
Clusters", SIGCOMM 2019, and the authors' published code. A network embeds every node of every job by messages from
children to parents, sums them up per job and for the system, scores each stage that can start, and then each limit of
the number of tasks that the chosen job may run at once. Tasks of the stage start until the limit is reached; then it
decides anew. It knows historical means and what is revealed, as SJF and SRTF do, and nothing of the profiler.

What differs from the paper, and why:

- *Two kinds of executors*, where Spark has one: a node's features tell its kind.
- *Features.* The job's running tasks, the stage's unfinished tasks, and their expected slot time (number times mean
  duration) are as published; the last also as a logarithm, because jobs here differ a thousandfold. Free slots are an
  input of the heads, not of the nodes: then the embedding of a job changes only when something happens to that job,
  and is computed only then. "The free executor belongs to this job" is left out: moving one costs nothing here.
- *Summaries* of jobs and system pass through sign(v)·log(1 + |v|), for the same reason.
- *The limit* counts the job's tasks on executors of both kinds. Limits that come to the same (more tasks than the stage
  has left, or than slots are free) are one choice.
- *No choice.* If all tasks that wait for executors of one kind fit, they start at once: their order decides nothing.
- *Optional stages* whose presence is unknown are nodes with their expected work; sub-DAGs not planned yet are one node.
- *Acting* takes the choice of highest probability; training samples.

How training differs is told in ``agents/decima.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmsched_gym.envs.columns import Candidate, System
from llmsched_gym.errors import InputError
from llmsched_gym.policies.base import Observation, ObservationMode, Policy
from llmsched_gym.policies.choices import forced
from llmsched_gym.policies.learned import TRAINED, card_file, load_weights, need_torch, read_card, weights_file

if TYPE_CHECKING:
    from llmsched_gym.policies.decima_actor import DecimaActor


class Decima(Policy):
    """Graph network that was trained by policy gradients on historical means.

    Args:
        weights: "trained", "untrained" (those that training began with), or a ``.safetensors`` file with its card.

    Raises:
        InputError: Torch is not installed, or the weights cannot be used.
    """

    name = "decima"
    observation: ObservationMode = "graph"

    def __init__(self, weights: str = TRAINED) -> None:
        need_torch(self.name)
        from llmsched_gym.policies.decima_actor import DecimaActor
        from llmsched_gym.policies.decima_network import DecimaNetwork

        path = weights_file(self.name, weights)
        card = read_card(path, self.name)
        try:
            network = DecimaNetwork(**card.network)
        except TypeError as error:
            raise InputError(card_file(path), "network", str(error), "arguments of DecimaNetwork") from error
        load_weights(network, path)
        self.sources = (path, card_file(path))
        self._actor: DecimaActor = DecimaActor(network)

    def reset(self, info: Mapping[str, Any]) -> None:
        """Forget the jobs of the last episode."""
        self._actor.forget()
        self._pending = Pending()

    def act(self, obs: Observation) -> int:
        """Go on with the chosen stage, or choose the next one and its limit; wait only when nothing can start."""
        action = self._pending.next(obs)
        if action < 0:
            action = forced(obs)
        if action < 0:
            action, tasks = self._actor.choose(obs)
            self._pending.begin(obs, action, tasks)
        return action


class Pending:
    """The tasks of a chosen stage that still have to start at this instant."""

    def __init__(self) -> None:
        self._tasks = 0
        self._stage: tuple[float, ...] = ()

    def begin(self, obs: Observation, row: int, tasks: int) -> None:
        """Note that a task of a stage starts now, and that more follow."""
        self._stage = (float(obs["system"][System.TIME_S]), *self._identity(obs, row))
        self._tasks = tasks - 1

    def next(self, obs: Observation) -> int:
        """Return the row of the stage's next task; -1 if none is left, or the instant is over."""
        if self._tasks == 0:
            return -1
        row = int(self._stage[1])
        same = self._stage == (float(obs["system"][System.TIME_S]), *self._identity(obs, row))
        if not same or not obs["action_mask"][row]:
            self._tasks = 0
            return -1
        self._tasks -= 1
        return row

    @staticmethod
    def _identity(obs: Observation, row: int) -> tuple[float, ...]:
        stage = obs["candidates"][row]
        return row, float(stage[Candidate.JOB]), float(stage[Candidate.APP]), float(stage[Candidate.NODE])
