"""What callers may do with observations and environments: write, hold, share, copy, use other threads and processes."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmsched_gym.envs.scheduling_env import SchedulingEnv
from llmsched_gym.envs.vector_env import SchedulingVectorEnv

Observation = dict[str, NDArray[Any]]
STEPS = 60
EPISODES = 3
JOBS = 6


def one() -> SchedulingEnv:
    """A single environment with all tables."""
    return SchedulingEnv("mixed", jobs=JOBS, observation="graph", privileged=True)


def many(**arguments: Any) -> SchedulingVectorEnv:
    """A vector environment; episodes end and begin anew within `STEPS`."""
    return SchedulingVectorEnv("mixed", jobs=JOBS, num_envs=EPISODES, **arguments)


def walk_one(env: SchedulingEnv) -> Iterator[Observation]:
    """Play first come first served, episode after episode."""
    observation, info = env.reset(seed=0)
    for _ in range(STEPS):
        action = int(info["action_mask"].argmax())
        yield observation
        observation, _, done, _, info = env.step(action)
        if done:
            observation, info = env.reset()
    yield observation


def walk_many(env: SchedulingVectorEnv) -> Iterator[Observation]:
    """The same in all sub-environments."""
    observation, _ = env.reset(seed=0)
    for _ in range(STEPS):
        actions = env.action_masks().argmax(axis=1)
        yield observation
        observation = env.step(actions)[0]
    yield observation


def kept(walk: Iterator[Observation]) -> list[Observation]:
    """What is seen, copied at once."""
    return [{name: array.copy() for name, array in observation.items()} for observation in walk]


def same(left: list[Observation], right: list[Observation]) -> bool:
    """Whether two walks saw the same."""
    return len(left) == len(right) and all(
        a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
        for a, b in zip(left, right, strict=True)
    )


WALKS: dict[str, Callable[[], Iterator[Observation]]] = {
    "one": lambda: walk_one(one()),
    "many": lambda: walk_many(many()),
    "many, two threads": lambda: walk_many(many(threads=2)),
}


@pytest.mark.parametrize("name", WALKS)
def test_writing_into_observations_reaches_no_other_one(name: str) -> None:
    seen = []
    for observation in WALKS[name]():
        seen.append({table: array.copy() for table, array in observation.items()})
        for array in observation.values():
            array -= 1
            array[...] = 7
    assert same(seen, kept(WALKS[name]()))


@pytest.mark.parametrize("name", WALKS)
@pytest.mark.parametrize(
    "hold",
    [
        lambda array: array,
        lambda array: array.reshape(-1)[::2],
        lambda array: memoryview(array),
        lambda array: np.frombuffer(memoryview(array).cast("B"), array.dtype),
    ],
    ids=["array", "view", "memoryview", "buffer"],
)
def test_what_is_held_never_changes(name: str, hold: Callable[[NDArray[Any]], Any]) -> None:
    held, copies = [], []
    for observation in WALKS[name]():
        for array in observation.values():
            if array.size:
                held.append(hold(array))
                copies.append(np.array(held[-1]))
    assert all(np.array_equal(np.asarray(view), copied) for view, copied in zip(held, copies, strict=True))


def test_tensors_share_the_memory_of_observations() -> None:
    torch = pytest.importorskip("torch")
    held = [(torch.from_numpy(seen["candidates"]), seen["candidates"].copy()) for seen in WALKS["many"]()]
    assert all(np.array_equal(tensor.numpy(), copied) for tensor, copied in held)


def test_without_copies_two_sets_of_arrays_take_turns() -> None:
    env = many(copy=False)
    walk = walk_many(env)
    arrays = [next(walk)["jobs"] for _ in range(6)]
    assert len({id(array) for array in arrays}) == 2
    assert all(first is third for first, third in zip(arrays, arrays[2:], strict=False))
    assert same(kept(walk_many(many(copy=False))), kept(WALKS["many"]()))


@pytest.mark.parametrize("name", WALKS)
def test_stepping_from_another_thread(name: str) -> None:
    seen: list[Observation] = []
    thread = threading.Thread(target=lambda: seen.extend(kept(WALKS[name]())))
    thread.start()
    thread.join()
    assert same(seen, kept(WALKS[name]()))


def test_environments_in_several_threads_at_once() -> None:
    expected = {name: kept(walk()) for name, walk in WALKS.items()}
    with ThreadPoolExecutor(6) as pool:
        walks = [(name, pool.submit(lambda name=name: kept(WALKS[name]()))) for name in (*WALKS, *WALKS)]
        assert all(same(walk.result(), expected[name]) for name, walk in walks)


def test_environments_that_take_turns_do_not_mix() -> None:
    expected = kept(WALKS["many"]())
    turns = zip(WALKS["many"](), WALKS["many, two threads"](), strict=True)
    pairs = [({n: a.copy() for n, a in left.items()}, {n: a.copy() for n, a in right.items()}) for left, right in turns]
    assert same([left for left, _ in pairs], expected)
    assert same([right for _, right in pairs], expected)


def go_on(env: SchedulingVectorEnv, actions: NDArray[np.int64]) -> list[Observation]:
    """What the next ten steps show, and the masks' first actions then."""
    seen = []
    for _ in range(10):
        observation = env.step(actions)[0]
        seen.append({name: array.copy() for name, array in observation.items()})
        actions = env.action_masks().argmax(axis=1)
    return seen


def begun(threads: int) -> tuple[SchedulingVectorEnv, NDArray[np.int64]]:
    """A vector environment in the middle of its episodes."""
    env = many(threads=threads)
    env.reset(seed=0)
    for _ in range(5):
        env.step(env.action_masks().argmax(axis=1))
    return env, env.action_masks().argmax(axis=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_goes_on_by_itself(threads: int) -> None:
    env, actions = begun(threads)
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(target=lambda: theirs.send(go_on(env, actions)))
    child.start()
    assert ours.poll(60), "the child hangs"
    seen = ours.recv()
    child.join(60)
    assert child.exitcode == 0
    assert same(seen, go_on(env, actions))


def test_spawned_children_go_on_with_what_they_were_sent() -> None:
    env, actions = begun(2)
    single = one()
    single.reset(seed=0)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        seen = pool.submit(go_on, env, actions).result(timeout=300)
        assert pool.submit(one_step, single).result(timeout=300) == one_step(single)
    assert same(seen, go_on(env, actions))


def one_step(env: SchedulingEnv) -> list[float]:
    """The time and the sums of all tables after one step."""
    observation, _, _, _, info = env.step(int(env.action_masks().argmax()))
    return [info["time_s"], *(float(array.sum()) for array in observation.values())]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_copied_vector_environment_goes_on_as_the_original(threads: int, duplicate: Callable[[Any], Any]) -> None:
    env, actions = begun(threads)
    twin = duplicate(env)
    seen = go_on(twin, actions)
    assert same(seen, go_on(env, actions))
    assert [episode.now_ns for episode in twin.episodes] == [episode.now_ns for episode in env.episodes]
    twin.close()
    env.close()
