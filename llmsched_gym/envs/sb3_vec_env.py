"""The native vector environment as Stable-Baselines3 wants it. Needs the extra ``sb3``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from llmsched_gym.envs.arguments import flag, read_actions, read_seeds, real
from llmsched_gym.envs.normalise import SCALES, Scales, normalise
from llmsched_gym.envs.vector_env import SchedulingVectorEnv
from llmsched_gym.errors import InputError


class SchedulingVecEnv(VecEnv):
    """`SchedulingVectorEnv` with normalised observations, for Stable-Baselines3 and sb3-contrib's MaskablePPO.

    Args:
        scenario: As of `SchedulingEnv`.
        num_envs: Number of sub-environments.
        scales: Rules of `llmsched_gym.envs.normalise`; None leaves observations as they are.
        reward_scale: Rewards are multiplied with it; a number > 0.
        may_wait: Whether `action_masks` allows to wait while something can start. Without, policies keep all busy.
        settings: Other arguments of `SchedulingVectorEnv` and `SchedulingEnv`.

    Raises:
        InputError: An argument is not usable.
    """

    def __init__(
        self,
        scenario: str = "mixed",
        *,
        num_envs: int = 1,
        scales: Scales | None = SCALES,
        reward_scale: float = 1.0,
        may_wait: bool = True,
        **settings: Any,
    ) -> None:
        for name in ("autoreset_mode", "copy"):
            if name in settings:
                raise InputError("environment", name, settings[name], "nothing: Stable-Baselines3 prescribes it")
        if not isinstance(scales, Mapping | None):
            raise InputError("environment", "scales", scales, "rules by table and column, or None")
        self._scales = scales
        self._reward_scale = real("reward_scale", reward_scale)
        self._may_wait = flag("may_wait", may_wait)
        self.envs = SchedulingVectorEnv(
            scenario, num_envs=num_envs, autoreset_mode=AutoresetMode.SAME_STEP, copy=False, **settings
        )
        self._actions: NDArray[np.int64] = np.zeros(self.envs.num_envs, np.int64)
        self._returns, self._lengths = np.zeros(self.envs.num_envs), np.zeros(self.envs.num_envs, np.int64)
        super().__init__(self.envs.num_envs, self.envs.single_observation_space, self.envs.single_action_space)

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the legal actions: bool (num_envs, actions)."""
        masks = self.envs.action_masks()
        if not self._may_wait:
            masks[:, -1] &= ~masks[:, :-1].any(axis=1)
        return masks

    def reset(self) -> dict[str, NDArray[Any]]:  # pyright: ignore[reportIncompatibleMethodOverride] - of this space
        """Begin new episodes, with the seeds given to `seed`."""
        observation, infos = self.envs.reset(seed=list(self._seeds))
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [{"policy_seed": int(seed)} for seed in infos["policy_seed"]]
        self._returns[:], self._lengths[:] = 0.0, 0
        return self._shown(observation)

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions."""
        self._actions = read_actions(actions, self.num_envs)

    def step_wait(  # pyright: ignore[reportIncompatibleMethodOverride] - observations are of this space
        self,
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Take a step.

        Returns:
            Observations, rewards, dones and infos; the info of a sub-environment whose episode has ended holds
            ``terminal_observation``, ``episode`` (as SB3's ``Monitor``: return "r", length "l") and ``result``.
        """
        observation, rewards, dones, _, more = self.envs.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(dones).tolist():
            infos[i] = {
                "terminal_observation": self._shown(more["final_obs"][i]),
                "TimeLimit.truncated": False,
                "episode": {"r": float(self._returns[i]), "l": int(self._lengths[i]), "t": 0.0},
                "result": {
                    name: values[i] for name, values in more["final_info"]["result"].items() if not name.startswith("_")
                },
            }
            self._returns[i], self._lengths[i] = 0.0, 0
        return self._shown(observation), (rewards * self._reward_scale).astype(np.float32), dones, infos

    def close(self) -> None:
        """End the threads."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute, which all sub-environments share; of `action_masks` and lists, each its own."""
        value = getattr(self if attr_name == "action_masks" else self.envs, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse: sub-environments have no attributes of their own."""
        raise AttributeError(f"{attr_name} cannot be set: the sub-environments are one object")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method that answers for all sub-environments, and return the answers of those asked for."""
        answers = getattr(self, method_name)(*method_args, **method_kwargs)
        return [answers[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        """Tell that no sub-environment is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seeds of the next `reset`: one more for each sub-environment; None: drawn by the environment."""
        self._seeds = read_seeds(seed, self.num_envs)
        return self._seeds

    def _shown(self, observation: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if self._scales is None:
            return {name: array.copy() for name, array in observation.items()}
        mask = observation["action_mask"].copy()
        return {**normalise(observation, self._scales), "action_mask": mask}
