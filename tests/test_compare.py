"""Runs of `compare` as a user starts them: of served targets, and one that is stopped."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.tables import summary
from tests.family import GONE_S_MAX, descendants, folders_of, gone, reapers_of
from tests.service import wait_until
from tests.test_cli import CLEAN, crossover, refused


@pytest.mark.long
def test_served_targets_of_any_origin_are_compared(fresh_target, tmp_path: Path) -> None:
    targets = {name: fresh_target("noop") for name in ("one", "two")}
    urls = [f"--target={name}={target.url}" for name, target in targets.items()]
    pids = [f"--pids=one={targets['one'].processes['app'][0]}", f"--pids=two:web={targets['two'].processes['app'][0]}"]
    out = tmp_path / "run"
    words = ["compare", "--rungs", "", *urls, *pids, "--size", "empty", "--read-shares", "90", "--out", str(out)]
    ended = crossover(*words, within_s=900)
    assert ended.returncode == 0, ended.stderr
    assert "report.html" in ended.stdout and (out / "report.html").exists()
    assert {plot.suffix for plot in (out / "plots").iterdir()} == {".png", ".svg"}
    assert json.loads((out / "manifest.json").read_bytes())["complete"]
    measured = {cell["target"]: cell["cost"] for cell in summary(out)["cells"]}
    assert list(measured["one"]["by_component_us"]) == ["app"] and list(measured["two"]["by_component_us"]) == ["web"]
    assert 20 < measured["one"]["total_us"] < 20_000
    assert crossover("report", str(out)).returncode == 0
    assert "give another --out" in refused(*words)


@pytest.mark.long
def test_ctrl_c_in_compare_stops_everything_and_what_was_measured_is_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = subprocess.Popen(
        [sys.executable, "-m", "tests.brisk", "compare", "--size", "empty", "--read-shares", "90", "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=CLEAN,
        start_new_session=True,
    )
    try:
        wait_until(lambda: any((out / "rounds").glob("0*")) or command.poll() is not None, 300)
        family = descendants(command.pid)
        folders = [folder for reaper in reapers_of(command.pid) for folder in folders_of(reaper)]
        assert len(folders) == 6, "a place for the plan and one for each target"
        os.killpg(command.pid, signal.SIGINT)
        assert command.wait(300) == 130
        gone(family, folders)
        manifest = json.loads((out / "manifest.json").read_bytes())
        assert not manifest["complete"]
        assert any((out / "rounds").glob("0*"))
        assert f"To go on: crossover compare --resume {out}" in command.communicate()[1]
    finally:
        command.kill()
        command.communicate(timeout=GONE_S_MAX)
    assert "crossover compare --resume" in crossover("show", str(out)).stdout
    resumed = crossover("compare", "--resume", str(out), within_s=900)
    assert resumed.returncode == 0, resumed.stderr
    assert "not verified" not in resumed.stdout and "95% interval" in resumed.stdout
    assert json.loads((out / "manifest.json").read_bytes())["sessions"] == 2
