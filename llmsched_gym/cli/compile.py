"""The verb ``compile``: machine code ahead of its first use."""

from __future__ import annotations

import time
from dataclasses import dataclass

from llmsched_gym.cli.console import EpisodeProgress, print_json, say
from llmsched_gym.cli.options import Json, Workers
from llmsched_gym.errors import RunError


@dataclass(frozen=True)
class Compile:
    """Compile everything ahead of its first use, as for a container image or the nodes of a cluster.

    The code is kept in LLMSCHED_GYM_CACHE, else XDG_CACHE_HOME, else ~/.cache, and serves machines with the same
    processor and the same versions of Python, Numba and NumPy. What is there already is not compiled again.

    Attributes:
        workers: Processes; default: one per core.
        as_json: Print one JSON object.
    """

    workers: Workers = None
    as_json: Json = False

    def run(self) -> int:
        """Compile, and say how much it was."""
        from llmsched_gym._code import ahead, store
        from llmsched_gym._code.parts import all_parts

        folder = store.code_folder()
        try:
            store.prepare(folder)
        except OSError as error:
            raise RunError(f"compiled code cannot be kept in {folder}: {error.strerror or error}") from None
        parts, began, functions, done = all_parts(), time.perf_counter(), 0, 0
        with EpisodeProgress("parts") as progress:
            progress.begin(len(parts), 0)
            for report in ahead.compile_parts(parts, self.workers or ahead.cores()):
                if report.failed:
                    raise RunError(report.failed[0])
                functions += report.made
                for part in report.finished:
                    progress.advance(f"{ahead.describe(part)} ({functions} functions so far)")
                done += len(report.finished)
        seconds = time.perf_counter() - began
        content = {"folder": str(folder), "parts": done, "functions": functions, "seconds": round(seconds, 1)}
        if self.as_json:
            print_json(content)
        else:
            say(f"compiled {functions} functions in {seconds:.0f} s; they are kept in {folder}")
        return 0
