"""What people write down for the package: YAML files, and the models that check their fields."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict

from llmsched_gym.errors import InputError


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number (YAML reads yes, no, on and off as true or false)")
    return value


Whole = Annotated[int, BeforeValidator(_number)]
"""A whole number; true and false are none."""

Real = Annotated[float, BeforeValidator(_number)]
"""A number; true and false are none."""


class Config(BaseModel):
    """A mapping with known fields; numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Loader(yaml.SafeLoader):
    """YAML's safe types, and every key once: PyYAML would let the last one win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            # Keys that "<<" merges from elsewhere may be overridden: that is what merging is for.
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise _RepeatedKeyError(key.value, key.start_mark.line + 1)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _RepeatedKeyError(Exception):
    """A key stands twice in a mapping: key, line."""


def read_yaml(path: str | Path, what: str) -> Any:
    """Return the content of a YAML file.

    Args:
        path: The file.
        what: What it should be, for errors.

    Raises:
        InputError: It cannot be read, is not YAML, or has a key twice in a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not UTF-8 text"
        raise InputError(path, "", reason, what) from None
    try:
        # A subclass of the safe loader: no tag of the file can make other objects.
        return yaml.load(text, _Loader)
    except _RepeatedKeyError as error:
        key, line = error.args
        raise InputError(path, f"line {line}", key, "every key once in a mapping") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark else ""
        raise InputError(path, line, getattr(error, "problem", None) or "not YAML", what) from None
