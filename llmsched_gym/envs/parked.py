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
from numba.np.arrayobj import populate_array
from numpy.typing import NDArray

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
    """Named tuples of C-contiguous arrays and numbers, all of one type, in rows.

    The rows hold the addresses of the arrays' memory and their lengths, and nothing that follows from the type: they
    are read anew in every step, and so should be few cache lines. The tuples are kept, so that the memory stays theirs.

    Args:
        tuples: The first rows; at least one.
        rows: Number of rows, default as many; those that have not been set must not be loaded.

    Attributes:
        address: Where the rows are in memory.
    """

    def __init__(self, tuples: list[Any], rows: int | None = None) -> None:
        rows = len(tuples) if rows is None else rows
        self._numba_type_ = ParkedType(type_of(tuples[0]))
        self._memory = np.zeros(rows * _words(self._numba_type_.content), np.int64)
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

    def words(self, row: int) -> NDArray[np.int64]:
        """Return the numbers that a row consists of; writing to them changes it."""
        return self._memory.reshape(len(self._tuples), -1)[row]


def _parts(content: Any) -> tuple[types.Type, ...]:
    """Return the types of the parts of a tuple."""
    return tuple(content)


def _words(content: types.Type) -> int:
    """Return how many numbers of 8 bytes a value takes up in a row: address and lengths of an array, or itself."""
    if isinstance(content, types.BaseTuple):
        return sum(map(_words, _parts(content)))
    if not isinstance(content, types.Array):
        return 1
    if content.layout != "C":
        raise TypeError(f"{content} is not C-contiguous")
    return 1 + content.ndim


def _row(context: Any, builder: Any, content: types.Type, address: Any, row: Any) -> Any:
    """Emit the pointer to a row."""
    size = context.get_constant(types.int64, 8 * _words(content))
    word = context.get_value_type(types.int64).as_pointer()
    return builder.inttoptr(builder.add(address, builder.mul(row, size)), word)


def _emit_read(context: Any, builder: Any, content: types.Type, words: Any) -> Any:
    """Emit a value that begins at a pointer."""
    if isinstance(content, types.BaseTuple):
        parts = []
        for part in _parts(content):
            parts.append(_emit_read(context, builder, part, words))
            words = builder.gep(words, [context.get_constant(types.int64, _words(part))])
        return context.make_tuple(builder, content, parts)
    if not isinstance(content, types.Array):
        return builder.load(builder.bitcast(words, context.get_value_type(content).as_pointer()))
    array = context.make_array(content)(context, builder)
    lengths = [
        builder.load(builder.gep(words, [context.get_constant(types.int64, 1 + axis)])) for axis in range(content.ndim)
    ]
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(content.dtype)))
    strides = [itemsize]
    for length in reversed(lengths[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    data = builder.inttoptr(builder.load(words), array.data.type)
    populate_array(array, data, lengths, strides, itemsize, None)
    return array._getvalue()


def _emit_write(context: Any, builder: Any, content: types.Type, words: Any, value: Any) -> None:
    """Emit code that writes a value to a pointer."""
    if isinstance(content, types.BaseTuple):
        for position, part in enumerate(_parts(content)):
            _emit_write(context, builder, part, words, builder.extract_value(value, position))
            words = builder.gep(words, [context.get_constant(types.int64, _words(part))])
    elif isinstance(content, types.Array):
        array = context.make_array(content)(context, builder, value)
        builder.store(builder.ptrtoint(array.data, words.type.pointee), words)
        for axis, length in enumerate(cgutils.unpack_tuple(builder, array.shape)):
            builder.store(length, builder.gep(words, [context.get_constant(types.int64, 1 + axis)]))
    else:
        builder.store(value, builder.bitcast(words, value.type.as_pointer()))


def _emit_load(_: Any, parked: ParkedType, row: types.Integer) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        content = signature.return_type
        return _emit_read(context, builder, content, _row(context, builder, content, *arguments))

    return parked.content(parked, types.int64), emit


load: Any = intrinsic(_emit_load)
"""``load(parked, row)``: the tuple in a row; for kernels, which count no references to arrays."""


def _emit_store(_: Any, parked: ParkedType, row: types.Integer, content: types.Type) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, at, value = arguments
        content = signature.args[2]
        _emit_write(context, builder, content, _row(context, builder, content, address, at), value)
        return context.get_dummy_value()

    return types.void(parked, types.int64, content), emit


_store: Any = intrinsic(_emit_store)


@kernel
def store(parked: Any, row: int, content: Any) -> None:
    """Write a tuple into a row."""
    _store(parked, row, content)
