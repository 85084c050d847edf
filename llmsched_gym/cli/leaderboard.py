"""The verbs ``leaderboard prepare``, ``validate`` and ``schema``."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from llmsched_gym.cli.console import EpisodeProgress, note, print_json, say
from llmsched_gym.cli.flags import parse_names
from llmsched_gym.cli.options import Json, Range, RequiredOutput, Text, Workers, optional

if TYPE_CHECKING:
    from llmsched_gym.leaderboard.validation import Validation

_Folders = Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="DIR")]
_SuiteName = Annotated[str, tyro.conf.arg(metavar="NAME|FOLDER")]
_Suite = Annotated[str | None, optional("FOLDER")]
_Track = Annotated[Literal["online", "search", "oracle"] | None, optional("online|search|oracle")]


@dataclass(frozen=True)
class Prepare:
    """Run a policy on a suite, and write a submission: all that leaderboard validate asks for.

    Every finished episode is kept beside the output, in a folder of the same name with .episodes behind it: an
    interrupted command goes on where it stopped when it is given again. What is left out of the options below marked
    "told" is to be filled in by hand, in submission.json and README.md.

    Attributes:
        suite: Suite that comes with the package, or the folder of one.
        policy: Policy: short name or path.py:factory; several, separated by commas, are training runs of one policy.
        name: Told: name of the scheduler.
        output: Folder to make.
        authors: Told: who submits it, separated by commas.
        track: Told: online, search or oracle; default: oracle for policies that read the truth, else online.
        about: Told: how it decides.
        training: Told: what was trained, on which jobs.
        tuning: Told: how parameters were chosen, on which jobs.
        simulations: Told: most simulated futures that a decision looks at; 0 outside the track search.
        compute: Told: what it was trained and run on.
        code: Told: where the code is (https://...), or "not published".
        license: Told: of the code and weights.
        workers: Worker processes; default: one per core.
    """

    suite: _SuiteName
    policy: str
    name: str
    output: RequiredOutput
    authors: Text = None
    track: _Track = None
    about: Text = None
    training: Text = None
    tuning: Text = None
    simulations: Annotated[int, Range(0, 10**9)] = 0
    compute: Text = None
    code: Text = None
    license: Text = None
    workers: Workers = None

    def run(self) -> int:
        """Run the suite and write the submission."""
        from llmsched_gym.leaderboard.drafting import Draft
        from llmsched_gym.leaderboard.preparing import episodes_folder, prepare
        from llmsched_gym.suites.suite import load_suite
        from llmsched_gym.user_code.ending import contain_exit

        draft = Draft(
            name=self.name,
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            authors=None if self.authors is None else parse_names("--authors", self.authors),
            track=self.track,
            about=self.about,
            training=self.training,
            tuning=self.tuning,
            simulations=self.simulations,
            compute=self.compute,
            code=self.code,
            license=self.license,
        )
        suite, policies = load_suite(self.suite), parse_names("--policy", self.policy)
        try:
            prepare(suite, policies, draft, self.output, self.workers, lambda name: EpisodeProgress(within=name))
        except KeyboardInterrupt:
            kept = f"finished episodes are kept in {episodes_folder(self.output)}; the same command goes on from there"
            raise KeyboardInterrupt(kept) from None
        contain_exit()
        told = (draft.authors, draft.about, draft.training, draft.tuning, draft.compute, draft.code, draft.license)
        say(f"submission: {self.output}")
        if None in told:
            say(f"to be filled in: what says TO BE FILLED IN in {self.output}/submission.json and README.md")
        say(f"then: llmsched-gym leaderboard validate {self.output}")
        return 0


@dataclass(frozen=True)
class Validate:
    """Check submissions without running any of their code: files, claims, and every action on the simulator.

    All that is wrong is told, a line each; the exit code is then 2. What was found is written to validation.json in the
    folder of the submission.

    Attributes:
        folders: Submissions.
        suite: Folder of their suite, if it does not come with the package.
        as_json: Print one JSON object.
    """

    folders: _Folders
    suite: _Suite = None
    as_json: Json = False

    def run(self) -> int:
        """Check, write and print what was found."""
        from llmsched_gym.leaderboard.validating import validate, write_validation
        from llmsched_gym.suites.suite import load_suite

        suite = None if self.suite is None else load_suite(self.suite)
        found: dict[str, Validation] = {}
        for folder in self.folders:
            with EpisodeProgress(within=folder.name) as progress:
                found[str(folder)] = validate(folder, suite, progress)
            write_validation(folder, found[str(folder)])
        if self.as_json:
            print_json({"submissions": {name: one.model_dump(mode="json") for name, one in found.items()}})
        for name, one in found.items():
            for fault in one.faults:
                note(f"{name}: {fault}")
            if one.valid and not self.as_json:
                say(f"{name}: {one.badge}: {one.episodes} episodes, {one.decisions} decisions, as claimed")
        return 0 if all(one.valid for one in found.values()) else 2


@dataclass(frozen=True)
class Schema:
    """Write the JSON schema of submission.json, of an episode and of validation.json.

    Attributes:
        output: File to write.
    """

    output: RequiredOutput

    def run(self) -> int:
        """Write it."""
        from llmsched_gym.evaluation.store import write_text
        from llmsched_gym.leaderboard.schema import schema_text

        write_text(self.output, schema_text())
        say(f"schema: {self.output}")
        return 0
