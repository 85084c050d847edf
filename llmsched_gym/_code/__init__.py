"""How compiled functions come about: what Numba makes of them, where it is kept, and who makes it ahead of its use."""
