"""Arguments of compiled functions, taken over from Python once and read again from memory.

To hand an array to a compiled function costs about 0.1 µs, and an episode is made of some fifty: as much as a decision
itself. `Parked` keeps named tuples of arrays in the form that compiled code has them in, so that any number of episodes
crosses over as one address; in a kernel, ``load(parked, row)`` is the tuple of a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import NativeValue, intrinsic, models, register_model, unbox

from llmsched_gym._jit import kernel, type_of


class ParkedType(types.Type):
    """The type of `Parked` in compiled code: an address.

    Args:
        content: Type of the rows.
    """

    def __init__(self, content: types.Type) -> None:
        self.content = content
        super().__init__(name=f"Parked({content})")


@register_model(ParkedType)
class _ParkedModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: ParkedType) -> None:
        super().__init__(manager, numba_type, manager.lookup(types.int64).get_value_type())


@unbox(ParkedType)
def _unbox(numba_type: ParkedType, parked: Any, context: Any) -> NativeValue:
    number = context.pyapi.object_getattr_string(parked, "address")
    address = context.pyapi.long_as_longlong(number)
    context.pyapi.decref(number)
    return NativeValue(address, is_error=cgutils.is_not_null(context.builder, context.pyapi.err_occurred()))


class Parked:
    """Named tuples of arrays, all of one type, in rows.

    The rows hold the addresses of the arrays' memory. The tuples are kept, so that it stays theirs.

    Args:
        tuples: The first rows; at least one.
        rows: Number of rows, default as many; those that have not been set must not be loaded.

    Attributes:
        address: Where the rows are in memory.
    """

    def __init__(self, tuples: list[Any], rows: int | None = None) -> None:
        rows = len(tuples) if rows is None else rows
        self._numba_type_ = ParkedType(type_of(tuples[0]))
        self.address = 0
        self._memory = np.zeros(rows * row_bytes(self), np.uint8)
        self.address = self._memory.ctypes.data
        self._tuples: list[Any] = [None] * rows
        for row, content in enumerate(tuples):
            self[row] = content

    def __setitem__(self, row: int, content: Any) -> None:
        """Park a tuple of the same type as the others.

        Raises:
            TypeError: It is of another type.
        """
        if type_of(content) != self._numba_type_.content:
            raise TypeError(f"row {row} is of another type than the others")
        store(self, row, content)
        self._tuples[row] = content


def _row(context: Any, builder: Any, content: types.Type, address: Any, row: Any) -> Any:
    """Emit the pointer to a row."""
    value_type = context.get_value_type(content)
    size = context.get_constant(types.int64, context.get_abi_sizeof(value_type))
    return builder.inttoptr(builder.add(address, builder.mul(row, size)), value_type.as_pointer())


def _emit_load(_: Any, parked: ParkedType, row: types.Integer) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_row(context, builder, signature.return_type, *arguments))

    return parked.content(parked, types.int64), emit


load: Any = intrinsic(_emit_load)
"""``load(parked, row)``: the tuple in a row; for kernels, which count no references to arrays."""


def _emit_store(_: Any, parked: ParkedType, row: types.Integer, content: types.Type) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, at, value = arguments
        builder.store(value, _row(context, builder, signature.args[2], address, at))
        return context.get_dummy_value()

    return types.void(parked, types.int64, content), emit


_store: Any = intrinsic(_emit_store)


def _emit_row_bytes(_: Any, parked: ParkedType) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = context.get_abi_sizeof(context.get_value_type(signature.args[0].content))
        return context.get_constant(types.int64, size)

    return types.int64(parked), emit


_row_bytes: Any = intrinsic(_emit_row_bytes)


@kernel
def store(parked: Any, row: int, content: Any) -> None:
    """Write a tuple into a row."""
    _store(parked, row, content)


@kernel
def row_bytes(parked: Any) -> int:
    """Return the size of a row."""
    return _row_bytes(parked)
