"""A network that scores each candidate by itself, in the light of its job and the system.

One small network is shared by all rows, so that its weights depend neither on the size of the observation's windows nor
on the order of their rows.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from llmsched_gym.envs.columns import Candidate, Executor, Job, System

_CANDIDATE: Final = [
    column for column in Candidate if column not in (Candidate.JOB, Candidate.APP, Candidate.NODE)
]  # what is left is numbers; "kind" is 0 or 1
_JOB: Final = [column for column in Job if Job.APP < column <= Job.HISTORY_S]  # what weights were trained on so far
_SYSTEM: Final = [System.JOBS, System.CANDIDATES, System.HIDDEN_CANDIDATES]


class CandidateNetwork(nn.Module):
    """Scores of candidates and the value of an observation, from normalised tables.

    Args:
        hidden: Width of the hidden layers.
    """

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.arguments = {"hidden": hidden}
        self.job = nn.Sequential(nn.Linear(len(_JOB), hidden), nn.Tanh())
        self.context = nn.Sequential(nn.Linear(hidden + len(Executor) + len(_SYSTEM), hidden), nn.Tanh())
        self.score = nn.Sequential(
            nn.Linear(len(_CANDIDATE) + len(_JOB) + hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, 1),
        )
        self.value = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        last = self.score[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.01)  # at first all candidates are about as good

    def forward(
        self, candidates: Tensor, jobs: Tensor, executors: Tensor, system: Tensor, legal: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Score the candidates that can start; only their rows are computed.

        Args:
            candidates: float (B, N, len(Candidate)), normalised.
            jobs: float (B, J, len(Job)), normalised.
            executors: float (B, E, len(Executor)), normalised.
            system: float (B, len(System)), normalised.
            legal: bool (B, N). Rows to score.

        Returns:
            Scores (B, N), 0 for other rows; and values (B,).
        """
        known = jobs[..., _JOB]
        present = (known != 0.0).any(-1, keepdim=True)  # the other rows are padding
        everyone = (self.job(known) * present).sum(1) / 16.0
        context = self.context(torch.cat([everyone, executors.mean(1), system[..., _SYSTEM]], -1))
        batch, row = legal.nonzero(as_tuple=True)
        picked = candidates[batch, row]
        job = picked[:, Candidate.JOB].long()
        shown = (job >= 0).unsqueeze(-1)  # a job outside the window is not known
        own = torch.where(shown, known[batch, job.clamp(min=0)], 0.0)
        scored = self.score(torch.cat([picked[:, _CANDIDATE], own, context[batch]], -1)).squeeze(-1)
        scores = candidates.new_zeros(legal.shape).index_put((batch, row), scored)
        return scores, self.value(context).squeeze(-1)
