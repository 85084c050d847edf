"""A server's own request log: what it served, and when first and last tokens came."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmsched_gym.backends.replay import RequestLog, serve
from llmsched_gym.backends.simulator.state import EngineConfig

Floats = NDArray[np.float64]


class MeasuredLog(NamedTuple):
    """Requests with the times that clients or the server saw.

    Attributes:
        requests: What was served.
        first_token_s: float64 (n,), from arrival to the first token; nan where it was not measured.
        end_to_end_s: float64 (n,), from arrival to the last token; nan where it was not measured.
    """

    requests: RequestLog
    first_token_s: Floats
    end_to_end_s: Floats

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Whose end was measured; bool (n,)."""
        return np.isfinite(self.end_to_end_s)

    def decoding_at_once(self) -> int:
        """Most requests between their first and their last token at one time; 0 without times of first tokens."""
        _, (count, _, _) = self._held()
        return int(count.max(initial=0))

    def tokens_at_once(self) -> int:
        """Most prompt and generated tokens of requests between their first and last token at one time."""
        times, (_, at_zero, per_second) = self._held()
        return int(np.max(at_zero[:-1] + per_second[:-1] * times[1:], initial=0.0))

    def _held(self) -> tuple[Floats, Floats]:
        """When first and last tokens come, float64 (m,), and float64 (3, m): after each, who decodes, and their tokens
        as a line over time: value at zero and slope. Ends come before beginnings: a slot is handed on, not shared.
        """
        known = np.flatnonzero(np.isfinite(self.first_token_s) & self.measured)
        arrival = (self.requests.arrival_ns - self.requests.arrival_ns.min())[known] * 1e-9
        first, last = arrival + self.first_token_s[known], arrival + self.end_to_end_s[known]
        slope = self.requests.output_tokens[known] / np.maximum(last - first, 1e-9)
        held = np.stack([np.ones(len(known)), self.requests.prompt_tokens[known] - slope * first, slope])
        times, change = np.concatenate([last, first]), np.concatenate([-held, held], axis=1)
        order = np.argsort(times, kind="stable")
        return times[order], np.cumsum(change[:, order], axis=1)


def only(requests: RequestLog, rows: NDArray[np.intp]) -> RequestLog:
    """Return some of the requests."""
    contents = None if requests.contents is None else requests.contents[rows]
    ids = [requests.ids[row] for row in rows]
    arrival, prompt, output = requests.arrival_ns[rows], requests.prompt_tokens[rows], requests.output_tokens[rows]
    return RequestLog(ids, arrival, prompt, output, contents)


def replayed(requests: RequestLog, config: EngineConfig) -> MeasuredLog:
    """Return what would be measured of a simulated engine that serves these requests.

    Raises:
        InputError: A request can never fit in the KV cache.
    """
    tasks, _ = serve(requests, config)
    first, end = ((tasks[name] - tasks["start_ns"]) * 1e-9 for name in ("first_token_ns", "finish_ns"))
    return MeasuredLog(requests, first, end)
