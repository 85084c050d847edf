"""Calibrate the simulator on real vLLM servers, then check it against them on jobs that it has not seen.

    python baselines/validate_vllm.py                                   a small model on the CPU, 17 min
    python baselines/validate_vllm.py --model dummy:7b --gpus 0 --scenario mixed --max-num-seqs 8 -o results/7b

Launches the servers, calibrates on the train split, validates on the eval split, stops the servers. Run again after an
interrupt, it goes on where it stopped. The output folder then holds the latency profile, its readings, summary.json and
validation.png.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from llmsched_gym.backends.vllm.launch import launch_all
from llmsched_gym.backends.vllm.launch_spec import LaunchSpec
from llmsched_gym.cli.calibrate import Calibrate
from llmsched_gym.cli.validate import Validate
from llmsched_gym.errors import InputError, RunError

SCENARIO = Path(__file__).parents[1] / "configs" / "scenarios" / "validation.yaml"


def parser() -> argparse.ArgumentParser:
    """Describe the options."""
    options = argparse.ArgumentParser(description="Calibrate on real vLLM servers and validate against them.")
    options.add_argument("--model", default="dummy:small", help="a model's name or folder, or dummy:SIZE")
    options.add_argument("--servers", type=int, default=1, help="number of servers, without --gpus")
    options.add_argument("--gpus", default="", help="one server per GPU, as 0,1,2,3; default: the CPU, or any GPU")
    options.add_argument("--port", type=int, default=8970, help="port of the first server")
    options.add_argument("--max-num-seqs", type=int, default=4, help="largest batch of a server")
    options.add_argument("--max-num-batched-tokens", type=int, default=2048, help="tokens per iteration")
    options.add_argument("--scenario", default=str(SCENARIO), help="scenario name or YAML file")
    options.add_argument("--policies", default="fcfs,srtf,llmsched,oracle_srtf", help="policies, separated by commas")
    options.add_argument("--jobs", type=int, default=None, help="number of jobs; default: the scenario's")
    options.add_argument("--load", type=float, default=None, help="load; default: the scenario's")
    options.add_argument("--seed", type=int, default=0, help="seed of the jobs, eval split")
    options.add_argument("--repeats", type=int, default=3, help="runs per policy on the servers")
    options.add_argument("--rounds", type=int, default=3, help="rounds of calibration")
    options.add_argument("--budget-s", type=float, default=120.0, help="longest calibration, in seconds")
    options.add_argument("-o", "--output", type=Path, default=Path("results/validate_vllm"), help="folder")
    return options


def main() -> int:
    """Launch, calibrate, validate, stop."""
    given = parser().parse_args()
    # A terminated process is to end like an interrupted one: readings and runs kept, servers gone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    gpus = [gpu for gpu in given.gpus.split(",") if gpu]
    specs = [
        LaunchSpec(
            model=given.model,
            port=given.port + index,
            dtype="bfloat16",
            max_num_seqs=given.max_num_seqs,
            max_num_batched_tokens=given.max_num_batched_tokens,
            env={"CUDA_VISIBLE_DEVICES": gpus[index]} if gpus else {},
        )
        for index in range(len(gpus) or given.servers)
    ]
    profile = given.output / "profile.json"
    servers = launch_all(specs, given.output / "logs")
    try:
        urls = ",".join(server.url for server in servers)
        Calibrate(
            server=urls,
            max_num_seqs=given.max_num_seqs,
            max_num_batched_tokens=given.max_num_batched_tokens,
            name=given.model.replace(":", "-"),
            output=profile,
            scenario=given.scenario,
            rounds=given.rounds,
            budget_s=given.budget_s,
        ).run()
        return Validate(
            server=urls,
            profile=str(profile),
            scenario=given.scenario,
            policies=given.policies,
            jobs=given.jobs,
            load=given.load,
            seed=given.seed,
            repeats=given.repeats,
            output=given.output,
        ).run()
    finally:
        for server in servers:
            server.stop()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (InputError, RunError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as interrupt:
        sys.exit(": ".join(["interrupted", *map(str, interrupt.args)]))
