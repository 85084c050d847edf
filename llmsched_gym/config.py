"""What people write down for the package: YAML files, and the models that check their fields."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from llmsched_gym.errors import InputError, Plain
from llmsched_gym.workloads.files import read_text


def _number(value: Any) -> Any:
    if isinstance(value, bool | str | bytes):
        raise PydanticCustomError("no_number", "not a number")
    return value


Whole = Annotated[int, BeforeValidator(_number)]
"""A whole number; text that looks like one is none, nor are true and false."""

Real = Annotated[float, BeforeValidator(_number)]
"""A number; text that looks like one is none, nor are true and false."""


class Config(BaseModel):
    """A mapping with known fields; numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values, and every key once.

    PyYAML reads YAML 1.1, where 010 is eight, 1:30 is ninety, 1e6 is text, and no and on are false and true; and it
    would let the last of two equal keys win in silence.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            # Keys that "<<" merges from elsewhere may be overridden: that is what merging is for.
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise _RepeatedKeyError(key.value, key.start_mark.line + 1)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
for _kind, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", "~|null|Null|NULL|", ("~", "n", "N", "")),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"({_pattern})$"), list(_first))


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
    text = read_text(path, what)
    try:
        # A subclass of the safe loader: no tag of the file can make other objects.
        return yaml.load(text, _Loader)
    except _RepeatedKeyError as error:
        key, line = error.args
        raise InputError(path, f"line {line}", key, "every key once in a mapping") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "unreadable"
        raise InputError(path, line, Plain(f"no YAML ({problem})"), what) from None
    except RecursionError:
        raise InputError(path, "", Plain("values nested too deeply"), what) from None
    except ValueError:
        raise InputError(path, "", Plain("a number of too many digits"), what) from None


def read_mapping(path: str | Path, what: str) -> dict[str, Any]:
    """Return the content of a YAML file that is a mapping, by names.

    Raises:
        InputError: As `read_yaml`; or it is something else.
    """
    content = read_yaml(path, what)
    if not isinstance(content, dict):
        raise InputError(path, "", Plain("nothing") if content is None else content, what)
    for key in content:
        if not isinstance(key, str):
            raise InputError(path, "key", key, "text")
    return content


def beside(source: str | Path, field: str, named: str) -> str:
    """Return the path of a file that another file names: relative to the folder of the file that names it.

    Args:
        source: The file that names it.
        field: Where it does so.
        named: What it says.

    Raises:
        InputError: There is no such file, even if the working directory has one.
    """
    path = Path(source).parent / named
    if not path.exists():
        elsewhere = "; the one in the working directory is not meant" if Path(named).exists() else ""
        raise InputError(source, field, named, f"a file that exists, relative to the folder of {source}{elsewhere}")
    return str(path)
