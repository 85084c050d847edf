"""What the code of a function is put into: one kind is only linked, the other is only run. Numba's own kind is both."""

from __future__ import annotations

from typing import Any, Final

from llvmlite import binding as llvm
from numba.core.codegen import CPUCodeLibrary, JITCodeLibrary


class Bitcode(CPUCodeLibrary):
    """Code that is only ever linked into other code: LLVM neither optimises it as a whole nor emits instructions."""

    SUFFIX: Final = ".bc"

    def finalize(self) -> None:
        """Link what it calls."""
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._final_module.verify()
        self._finalize_dynamic_globals()
        self._finalized = True

    def packed(self) -> tuple[str, bytes]:
        """Return what `unpacked` takes, once it is final."""
        return self.name, self._get_module_for_linking().as_bitcode()

    @classmethod
    def unpacked(cls, codegen: Any, name: str, bitcode: bytes) -> Bitcode:
        """Return a library that was packed."""
        library = cls(codegen, name)
        library._final_module = library._shared_module = llvm.parse_bitcode(bitcode)
        library._finalized = True
        return library


class Instructions(JITCodeLibrary):
    """Code that is only ever run."""

    SUFFIX: Final = ".o"

    def packed(self) -> tuple[str, bytes, tuple[str, ...]]:
        """Return what `unpacked` takes, once it is final."""
        module = self._final_module
        values = (*module.functions, *module.global_variables)
        return self.name, self._get_compiled_object(), tuple(value.name for value in values if not value.is_declaration)

    @classmethod
    def unpacked(cls, codegen: Any, name: str, code: bytes, defined: tuple[str, ...]) -> Instructions:
        """Return a library that was packed, ready to run."""
        library = cls(codegen, name)
        library.enable_object_caching()
        library._set_compiled_object(code)
        library._finalize_final_module()
        codegen._engine._defined_symbols.update(defined)
        return library
