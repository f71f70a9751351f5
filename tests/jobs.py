"""Jobs for the driver, as the command line gives them: a small plan over targets that are up already."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from loadtests import workload as workloads
from loadtests.plan import Cell, DataSize, Endpoint, Job, Plan

TINY = DataSize("tiny", customers=30, products=10, orders=40)


def job_for(folder: Path, urls: list[str], *, read_shares: tuple[float, ...] = (50, 90), **changes: Any) -> Path:
    """The file of a job in this folder, whose results are to be in its folder `run`; `changes` are of the plan."""
    resume, workload = changes.pop("resume", False), workloads.load("shop")
    names = [name for name, _ in zip("ab", urls, strict=False)]
    settings: dict[str, Any] = {
        "kind": "compare",
        "run": "test-run",
        "rungs": dict.fromkeys(names, "noop"),
        "workload": workload,
        "blocks": tuple((Cell(share),) for share in read_shares),
        "rate_per_s": workload.rate_per_s,
        "size": TINY,
        "fill_over_http": True,
        "rounds": 3,
        "slice_s": 0.2,
        "warm_up_s": 0.2,
        "probes": 4,
    }
    ours = {"app": [os.getpid()]}
    endpoints = tuple(Endpoint(name, url, "noop", processes=ours) for name, url in zip(names, urls, strict=True))
    plan, facts = Plan(**settings | changes), {"commit": "abc", "dirty": False}
    path = folder / "job.json"
    job = Job(plan=plan, out=str(folder / "run"), endpoints=endpoints, facts=facts, resume=resume)
    path.write_bytes(msgspec.json.encode(job))
    return path


# On a machine whose CPU others take, rounds would be void and measured again: here all count.
UNDISTURBED = """import runpy, sys; from msgspec.structs import replace; from loadtests import format
format.THRESHOLDS = replace(format.THRESHOLDS, steal_share_max=1.0, throttled_share_max=1.0)
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)"""


def start(job: Path, module: str = "loadtests.drive") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", UNDISTURBED, module, str(job)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def drive(job: Path, module: str = "loadtests.drive", within_s: float = 600) -> subprocess.CompletedProcess[str]:
    process = start(job, module)
    out, errors = process.communicate(timeout=within_s)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def one_sentence(done: subprocess.CompletedProcess[str], code: int) -> str:
    """How the driver ended."""
    assert done.returncode == code, done.stderr
    assert done.stderr.strip().count("\n") == 0
    return done.stderr


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run" / "manifest.json").read_text())


def rounds_of(folder: Path) -> list[Path]:
    """The whole rounds on disk."""
    return sorted((folder / "run" / "rounds").glob("0*"))
