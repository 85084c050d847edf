"""How compiled functions come about: what Numba makes of them, where it is kept, and who makes it ahead of its use."""

from __future__ import annotations

from llmsched_gym._code.versions import check_numba

check_numba()
