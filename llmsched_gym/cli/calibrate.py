"""The verb ``calibrate``: measure running vLLM servers and write their latency profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from llmsched_gym.cli.console import EpisodeProgress, note, print_json, print_table
from llmsched_gym.cli.options import BatchedTokens, Json, Output, Range, Sequences, Text, optional
from llmsched_gym.cli.real_servers import needs_vllm_extra, parse_urls
from llmsched_gym.errors import InputError

Size = Annotated[float | None, optional("FLOAT"), Range(0, 1e6, above=True)]


@dataclass(frozen=True)
class Calibrate:
    """Measure running vLLM servers and write their latency profile, for the simulator to use by name.

    Prompt chunks, and decoding by batch size and context, are measured as far as the scenario's requests reach, with
    the servers' own clocks, in rounds spread over time; several servers are measured all at once. Nobody else may use
    the servers meanwhile. Readings are kept beside the profile: a calibration that was interrupted goes on where it
    stopped when the same command is given again, and more rounds add to them.

    Attributes:
        server: URL of the server, or URLs of equal ones separated by commas.
        name: Name of the profile; default: the output's, or that of the served model.
        output: Profile to write (JSON); default: NAME.json among your own profiles, where it is found by its name.
        scenario: Scenario name or YAML file: which lengths of prompts and outputs, and which load, to fit to.
        max_num_seqs: The server's --max-num-seqs.
        max_num_batched_tokens: The server's --max-num-batched-tokens.
        rounds: How often everything is measured.
        budget_s: Seconds after which no measurement starts.
        weights_gb: Size of the model's weights in GB, to check the result against; with --bandwidth-gb-s.
        bandwidth_gb_s: Memory bandwidth of the device in GB/s.
        as_json: Print one JSON object.
    """

    server: Annotated[str, tyro.conf.arg(metavar="URL[,URL]")]
    max_num_seqs: Sequences
    max_num_batched_tokens: BatchedTokens
    name: Text = None
    output: Output = None
    scenario: str = "mixed"
    rounds: Annotated[int, Range(1, 1000)] = 5
    budget_s: Annotated[float, Range(0, 1e6, above=True)] = 300.0
    weights_gb: Size = None
    bandwidth_gb_s: Size = None
    as_json: Json = False

    def run(self) -> int:
        """Measure, fit, write, and show the profile."""
        urls = parse_urls(self.server)
        if self.max_num_batched_tokens < self.max_num_seqs:
            allowed = f"at least --max-num-seqs, {self.max_num_seqs}"
            raise InputError("--max-num-batched-tokens", "", self.max_num_batched_tokens, allowed)
        from llmsched_gym.cluster.latency import describe, own_profiles
        from llmsched_gym.scenario import load_scenario

        scenario = load_scenario(self.scenario)
        with needs_vllm_extra():
            from llmsched_gym.calibration.server import Calibration, Hardware, calibrate, served_model

        name = self.name or (self.output.stem if self.output else served_model(urls[0]))
        output = self.output or own_profiles() / f"{_file_name(name)}.json"
        asked = Calibration(
            urls,
            scenario,
            name,
            self.max_num_seqs,
            self.max_num_batched_tokens,
            self.rounds,
            self.budget_s,
            Hardware(self.weights_gb, self.bandwidth_gb_s),
        )
        readings = output.with_suffix(".readings.json")
        try:
            with EpisodeProgress("readings") as progress:
                profile = calibrate(asked, readings, progress)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"readings are kept in {readings}; the same command goes on from there") from None
        profile.save(output)
        if found := profile.provenance["fit"]["warnings"]:
            note(f"warning: {'; '.join(found)}")
        if self.as_json:
            coefficients = dict(zip("abcd", profile.coefficients_ms, strict=True))
            print_json({"name": name, "file": str(output), "coefficients_ms": coefficients, **profile.provenance})
        else:
            print_table("", ("", ""), describe(profile))
            note(f"wrote {output}")
        return 0


def _file_name(name: str) -> str:
    """Return a name that is one part of a path: names of models may be paths."""
    return Path(name.replace("\\", "/")).name or "server"
