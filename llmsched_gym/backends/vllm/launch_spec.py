"""What a vLLM server to start is, as people write it down, and which Python has vLLM."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError, field_validator

from llmsched_gym.backends.vllm.dummy_model import dummy_model, dummy_size
from llmsched_gym.complaints import from_validation, refused
from llmsched_gym.config import Config, Real, Whole
from llmsched_gym.errors import InputError, Plain

PYTHON_VARIABLE: Final = "LLMSCHED_GYM_VLLM_PYTHON"
"""Names the Python interpreter that has vLLM."""

DUMMY: Final = "dummy:"
"""Prefix of a model without weights ("dummy:tiny")."""

SERVER_MODULE: Final = "vllm.entrypoints.openai.api_server"
"""What a server's interpreter runs."""

_LOOK_FOR_SERVER: Final = """
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec

name, *parts = sys.argv[1].split(".")
spec = find_spec(name)
for part in parts:
    name = f"{name}.{part}"
    spec = spec and PathFinder.find_spec(name, spec.submodule_search_locations or [])
print("found" if spec else "missing")
"""
_ANSWER_S: Final = 30.0

_OURS: Final = frozenset({"--model", "--host", "--port", "--served-model-name"})


class LaunchSpec(Config):
    """A server to start.

    Attributes:
        model: Name or folder of a model, or "dummy:tiny", "dummy:small", "dummy:medium", "dummy:7b" for one without
            weights.
        port: Port on 127.0.0.1; 0 takes a free one.
        dtype: Number format of the weights, as vLLM names it.
        max_num_seqs: Largest batch.
        max_num_batched_tokens: Largest number of tokens of one iteration.
        max_model_len: Longest prompt and output together, in tokens; by default what the model allows.
        flags: More words for vLLM's command line.
        env: More environment variables ("CUDA_VISIBLE_DEVICES").
        start_timeout_s: How long the start may take.
    """

    model: str = Field(min_length=1)
    port: Whole = Field(default=0, ge=0, le=65535)
    dtype: str = "auto"
    max_num_seqs: Whole = Field(default=8, ge=1)
    max_num_batched_tokens: Whole = Field(default=2048, ge=1)
    max_model_len: Whole | None = Field(default=None, ge=1)
    flags: tuple[str, ...] = ()
    env: dict[str, str] = {}
    start_timeout_s: Real = Field(default=300.0, gt=0)

    @field_validator("flags")
    @classmethod
    def _not_ours(cls, flags: tuple[str, ...]) -> tuple[str, ...]:
        taken = sorted(_OURS & {flag.partition("=")[0] for flag in flags})
        if taken:
            raise refused("", taken[0], "no such flag: it follows from the other fields")
        return flags

    @classmethod
    def of(cls, given: str | Mapping[str, object] | LaunchSpec) -> LaunchSpec:
        """Return the spec that a model's name, a mapping of fields, or a spec stands for.

        Raises:
            InputError: A field is wrong, or there is no such model.
        """
        if isinstance(given, LaunchSpec):
            return given
        fields = {"model": given} if isinstance(given, str) else dict(given)
        try:
            spec = cls.model_validate(fields)
        except ValidationError as error:
            raise from_validation("server", error, cls, fields) from None
        if spec.model.startswith(DUMMY):
            dummy_size(spec.model.removeprefix(DUMMY))
        elif spec.model.startswith(("/", "./", "../", "~")) and not Path(spec.model).expanduser().is_dir():
            raise InputError("server", "model", spec.model, "a folder that exists, a model's name, or dummy:SIZE")
        return spec

    @property
    def served_model(self) -> str:
        """Name of the model in requests."""
        return self.model.replace(":", "-") if self.model.startswith(DUMMY) else self.model

    def words(self, port: int) -> list[str]:
        """Return the arguments of vLLM's API server."""
        model, words = self.model, list[str]()
        if self.model.startswith(DUMMY):
            name = self.model.removeprefix(DUMMY)
            model = str(dummy_model(name))
            words += ["--load-format", "dummy", "--skip-tokenizer-init"]
            words += ["--enforce-eager"] if dummy_size(name).eager else []
        options = {
            "model": str(Path(model).expanduser()) if model.startswith("~") else model,
            "served-model-name": self.served_model,
            "host": "127.0.0.1",
            "port": port,
            "dtype": self.dtype,
            "max-num-seqs": self.max_num_seqs,
            "max-num-batched-tokens": self.max_num_batched_tokens,
            "max-model-len": self.max_model_len,
            "seed": 0,
        }
        for name, value in options.items():
            words += [] if value is None else [f"--{name}", str(value)]
        return [*words, "--enable-prompt-tokens-details", "--disable-uvicorn-access-log", *self.flags]


def find_python(given: str | None = None) -> str:
    """Return the Python interpreter that has vLLM's server.

    Looked for in this order: `given`, the variable LLMSCHED_GYM_VLLM_PYTHON, ``.venv-vllm`` in the working directory,
    this interpreter. Each is asked whether it finds the module that a server runs, so that a folder which happens to be
    called ``vllm`` is not taken for the package.

    Raises:
        InputError: There is none, or the one that was named has no vLLM.
    """
    for source, path in (("python", given), (PYTHON_VARIABLE, os.environ.get(PYTHON_VARIABLE))):
        if path:
            found = shutil.which(path)
            if found is None or not _has_server(found):
                raise InputError(source, "", path, "a Python interpreter that has vLLM")
            return found
    for python in (str(Path(".venv-vllm/bin/python").absolute()), sys.executable):
        if _has_server(python):
            return python
    allowed = f"vLLM in this environment, in .venv-vllm (run `make vllm`), or a Python that has it in {PYTHON_VARIABLE}"
    raise InputError("vllm", "", Plain("no vLLM to launch servers with"), allowed)


def python_environment(python: str) -> dict[str, str]:
    """Return the environment variables that a server's interpreter gets.

    It leaves the working directory out of its module path: a clone of vLLM there would hide the installed package.
    """
    inherited = dict(os.environ)
    if python != sys.executable:  # module paths and homes of this interpreter are not meant for another
        inherited = {name: value for name, value in inherited.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**inherited, "PYTHONSAFEPATH": "1"}


def _has_server(python: str) -> bool:
    """Tell whether an interpreter finds the module of the server, without importing anything of vLLM."""
    try:
        answer = subprocess.run(
            [python, "-c", _LOOK_FOR_SERVER, SERVER_MODULE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=python_environment(python),
            timeout=_ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.stdout.strip() == b"found"
