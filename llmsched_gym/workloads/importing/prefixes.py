"""What the prompts of a run repeat: a conversation's calls, each of which repeats the one before and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmsched_gym.workloads.importing.recorded import Assumptions, Run


@dataclass(frozen=True)
class Repeated:
    """What a call's prompt repeats.

    Attributes:
        chain: Number of the job's chain that it continues.
        tokens: Leading tokens that the chain held.
        shared: Leading tokens that all runs of the application have in common.
    """

    chain: int
    tokens: int
    shared: int


@dataclass
class _Told:
    """A call as later ones find it: where its conversation ended with it, by `contents.py`'s reckoning."""

    repeated: Repeated
    prompt: int
    end: int


def repeated_prompts(
    run: Run, order: Sequence[int], tokens: Sequence[int], assumed: Assumptions
) -> dict[int, Repeated]:
    """Tell what the prompts of a run repeat.

    Args:
        run: The run.
        order: Its steps as the workload will have them.
        tokens: Prompt and output tokens of each step, one after the other: those of step n are at 2 n.
        assumed: Counts what had to be assumed.

    Returns:
        By step, of LLM calls.
    """
    ways: list[int] = []
    for step in run.steps:
        way = 0
        for parent in step.after:
            way |= ways[parent] | 1 << parent
        ways.append(way)
    told: dict[int, _Told] = {}
    calls: dict[str, list[int]] = {}
    chain_end: list[int] = []
    for n in order:
        step = run.steps[n]
        if not step.llm:
            continue
        prompt, end = tokens[2 * n], tokens[2 * n] + tokens[2 * n + 1]
        earlier = [c for c in calls.setdefault(step.conversation, []) if ways[n] >> c & 1]
        calls[step.conversation].append(n)
        last = told[earlier[-1]] if earlier else None
        if last is None or prompt < last.prompt:
            if last is not None:
                assumed.count(
                    "calls with a shorter prompt than the one before in their conversation: they repeat nothing"
                )
            shared = min(step.cached_tokens, prompt)
            chain_end.append(end)
            told[n] = _Told(Repeated(len(chain_end) - 1, shared, shared), prompt, end)
            continue
        chain, shared = last.repeated.chain, last.repeated.shared
        held = min(prompt, last.end)
        if held < last.end:
            assumed.count("calls that have no room for the whole answer before: they repeat as much of it as fits")
        else:
            assumed.count("calls whose prompt is at least as long as the one before with its answer: they repeat both")
        longer = held >= chain_end[chain]
        if longer:
            chain_end[chain] = end
        told[n] = _Told(Repeated(chain, held, shared), prompt, end if longer else last.end)
    return {n: one.repeated for n, one in told.items()}
