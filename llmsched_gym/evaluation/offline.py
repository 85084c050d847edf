"""Episodes of a policy as a Minari dataset, for offline reinforcement learning.

A dataset is of one environment, as ``gymnasium.make`` makes it, and shows what that shows: no truth, and a window of
its size. The policy sees what evaluations show it, in an episode of its own that goes the same way. So any policy can
be recorded: one that sees the truth, one that needs the graph, one whose window leaves nothing out.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np

import llmsched_gym
from llmsched_gym.errors import InputError, Plain
from llmsched_gym.evaluation.episode import find_policy, make_env, play, warm_up
from llmsched_gym.evaluation.growing import Playable, small_tables
from llmsched_gym.evaluation.metrics import mean
from llmsched_gym.evaluation.runner import Progress
from llmsched_gym.evaluation.setting import Setting
from llmsched_gym.extras import install_hint, is_installed
from llmsched_gym.policies.base import ObservationMode, Policy
from llmsched_gym.registration import ENVIRONMENTS
from llmsched_gym.workloads.files import make_folder, reason

NAME: Final = re.compile(r"([-_a-zA-Z0-9]+/)*[-_a-zA-Z0-9]+-v[0-9]+")
"""Names of datasets, as Minari reads them."""

_WHERE: Final = "MINARI_DATASETS_PATH"
_FILE: Final = Path("data") / "main_data.hdf5"


@dataclass(frozen=True)
class Recording:
    """What is recorded.

    Attributes:
        setting: Jobs, cluster and split.
        policy: Spec.
        seeds: One episode each.
        observation: What the dataset shows: "table" or "graph".
        window: Rows of ``candidates`` and of ``jobs``.
    """

    setting: Setting
    policy: str
    seeds: Sequence[int]
    observation: ObservationMode = "table"
    window: int = 64

    @property
    def default_name(self) -> str:
        """Name of the dataset if none is given."""
        scenario, policy = (re.sub(r"[^a-zA-Z0-9]+", "_", text).strip("_") for text in (self.setting.name, self.policy))
        return f"llmsched/{scenario}/{policy}-v0"


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        folder: The dataset's.
        episodes: How many.
        decisions: Of all of them.
        megabytes: On disk.
        mean_jct_s: Mean over the episodes.
    """

    folder: Path
    episodes: int
    decisions: int
    megabytes: float
    mean_jct_s: float


def datasets_folder() -> Path:
    """Return where Minari keeps datasets."""
    given = os.environ.get(_WHERE)
    return Path(given) if given else Path.home() / ".minari" / "datasets"


def check_minari() -> None:
    """Check that Minari is there, with the library that it stores with.

    Raises:
        InputError: It is not.
    """
    for package in ("minari", "h5py"):
        if not is_installed(package):
            raise InputError(
                "dataset", "", Plain(f"no package {package}"), f"it to be installed: {install_hint('offline')}"
            )


def record(recording: Recording, name: str, root: Path, progress: Progress) -> Written:
    """Play episodes and write them as a dataset, whole or not at all.

    Each episode's metadata has its seed, the digest of its jobs, that of the episode, and its mean JCT: the actions
    played again in ``gymnasium.make`` with the dataset's arguments give the same observations and digests.

    Args:
        recording: What to record.
        name: Name of the dataset, as `NAME`.
        root: Folder that datasets are kept in.
        progress: Told of every episode.

    Raises:
        InputError: Minari is missing, the name is none or taken, or a stage was started that the window does not show.
        RunError: The policy failed.
    """
    check_minari()
    if not NAME.fullmatch(name):
        raise InputError("--name", "", name, "letters, digits, _ and -, parts separated by /, and -v with a number")
    root = root.absolute()
    folder = root / name
    if folder.exists():
        raise InputError("--output", "", folder, "a folder that does not exist yet; take another --name or -o")
    make_folder(folder.parent)
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=".dataset-") as place:
            decisions, jct_s = _write_episodes(recording, name, Path(place), progress)
            _compress(Path(place) / name / _FILE)
            size = sum(file.stat().st_size for file in (Path(place) / name).rglob("*"))
            (Path(place) / name).rename(folder)
    except OSError as error:
        raise InputError("--output", "", root, f"a folder that can be written ({reason(error)})") from None
    return Written(folder, len(recording.seeds), decisions, size / 1e6, mean(jct_s))


def _write_episodes(recording: Recording, name: str, root: Path, progress: Progress) -> tuple[int, list[float]]:
    """Write the dataset, uncompressed; return the number of decisions, and the mean JCT of every episode."""
    import minari

    policy = find_policy(recording.policy)
    warm_up(recording.policy)
    shown = gym.make(_environment(recording.setting), **_arguments(recording, policy))
    progress.begin(len(recording.seeds), 0)
    dataset, jct_s = None, []
    for seed in recording.seeds:
        buffer, facts = _episode(recording, policy, shown, seed)
        if dataset is None:
            with _kept_in(root), warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="minari")  # it wishes for an author, an email and a link
                dataset = minari.create_dataset_from_buffers(name, [buffer], shown, **_about(recording, policy))
        else:
            dataset.update_dataset_from_buffer([buffer])
        dataset.storage.update_episode_metadata([facts], [len(jct_s)])
        jct_s.append(facts["mean_jct_s"])
        progress.advance(f"{recording.policy}, seed {seed}: {len(buffer)} decisions, mean JCT {jct_s[-1]:.2f} s")
    shown.close()
    return (0 if dataset is None else int(dataset.total_steps)), jct_s


def _environment(setting: Setting) -> str:
    known = {scenario: name for name, scenario in ENVIRONMENTS.items()}
    return known.get(setting.scenario.name, "LLMSched/Mixed-v0")


def _arguments(recording: Recording, policy: Policy) -> dict[str, Any]:
    """Return what the environment is made with: plain values, so that Minari can keep them."""
    setting = recording.setting
    return {
        "scenario": setting.scenario.model_dump(mode="json"),
        "split": setting.split,
        "observation": recording.observation,
        "placement": policy.placement,
        "max_candidates": recording.window,
        "max_jobs": recording.window,
    }


def _about(recording: Recording, policy: Policy) -> dict[str, Any]:
    setting = recording.setting
    sees = " It sees the truth, which the dataset does not show." if policy.privileged else ""
    load = "" if setting.load is None else f" at load {setting.load:g}"
    jobs = f"{setting.n_jobs} jobs{load}, split {setting.split}"
    return {
        "algorithm_name": recording.policy,
        "description": f"{recording.policy} on {setting.name}, {jobs}.{sees}",
        "requirements": [f"llmsched-gym=={llmsched_gym.__version__}"],
        "data_format": "hdf5",
    }


def _episode(recording: Recording, policy: Policy, shown: gym.Env[Any, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """Play one episode; return it as Minari takes it, and its metadata."""
    from minari.data_collector.episode_buffer import EpisodeBuffer

    env = make_env(recording.setting, policy, seed)
    both = _Recorder(small_tables(env), shown, recording.window)
    result, _ = play(both, policy, recording.policy, seed)
    facts = {
        "workload_digest": env.workload.digest,
        "episode_digest": result["digest"],
        "mean_jct_s": mean(result["jct_s"]),
        "policy": recording.policy,
        "privileged_policy": policy.privileged,
    }
    env.close()
    return EpisodeBuffer(seed=seed, **both.arrays()), facts


class _Recorder:
    """An episode as the policy sees it, and beside it the same one as the dataset shows it.

    Args:
        seen: The policy's.
        shown: The dataset's.
        window: Rows of ``candidates`` of the latter.
    """

    def __init__(self, seen: Playable, shown: gym.Env[Any, Any], window: int) -> None:
        self._seen, self._shown, self._window = seen, shown, window

    def reset(self, *, seed: int) -> tuple[Any, dict[str, Any]]:
        """Begin both."""
        observation, _ = self._shown.reset(seed=seed)
        self._observations, self._actions, self._rewards = [observation], [], []
        return self._kept(*self._seen.reset(seed=seed))

    def _kept(self, observation: Any, info: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self._waits = len(observation["action_mask"]) - 1
        return observation, info

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Carry out a decision in both."""
        last = len(self._observations[-1]["action_mask"]) - 1
        mine = last if action == self._waits else action
        if not 0 <= mine <= last or (mine == last and action != self._waits):
            allowed = "a larger --window: the policy started a stage that the dataset would not show"
            raise InputError("--window", "", self._window, allowed)
        observation, shown_reward, over, _, _ = self._shown.step(mine)
        self._observations.append(observation)
        self._actions.append(mine)
        self._rewards.append(float(shown_reward))
        seen, reward, over_there, truncated, info = self._seen.step(action)
        if over_there != over:
            raise RuntimeError("the two episodes went different ways")
        self._kept(seen, info)
        return seen, reward, over_there, truncated, info

    def arrays(self) -> dict[str, Any]:
        """Return the episode: observations (n + 1, ...) by name, and the others (n,)."""
        n = len(self._actions)
        return {
            "observations": {
                name: np.stack([one[name] for one in self._observations]) for name in self._observations[0]
            },
            "actions": np.array(self._actions, dtype=np.int64),
            "rewards": self._rewards,
            "terminations": [False] * (n - 1) + [True],
            "truncations": [False] * n,
        }


@contextmanager
def _kept_in(root: Path) -> Iterator[None]:
    """Have Minari keep datasets in a folder."""
    before = os.environ.get(_WHERE)
    os.environ[_WHERE] = str(root)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_WHERE]
        else:
            os.environ[_WHERE] = before


def _compress(path: Path) -> None:
    """Write a file of HDF5 again, compressed: most rows of most tables are empty, and Minari stores them all."""
    import h5py

    packed = path.with_suffix(".packed")
    with h5py.File(path, "r") as source, h5py.File(packed, "w") as target:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                made = target.require_group(name)
            else:
                options = {"compression": "gzip", "compression_opts": 4, "shuffle": True} if item.shape else {}
                made = target.create_dataset(name, data=item[()], **options)
            made.attrs.update(item.attrs)

        source.visititems(copy)
        target.attrs.update(source.attrs)
    shutil.move(packed, path)
