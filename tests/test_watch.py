"""``r3dad watch``: each scan once, through crashes, half-written files, files that are none, and full disks."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from r3dad.detector import Detector
from r3dad.errors import InputError
from r3dad.inspection import Inspection
from r3dad.line import watch as line
from r3dad.line.inbox import Arrival, Inbox
from r3dad.line.index_page import index_page
from r3dad.line.journal import ATTEMPTS, Journal
from r3dad.line.watch import Stop, Watcher, accepted
from r3dad.scans import read_scan
from tests.conftest import TINY, block_scan


def judged(path: Path) -> Inspection:
    """An inspection without a model: OK, or NG where the first coordinate is above 0."""
    points = read_scan(path).points
    count = len(points)
    bad = points[0, 0] > 0
    return Inspection(
        name=path.stem,
        verdict="NG" if bad else "OK",
        score=float(points[0, 0]),
        threshold=0.0,
        review=(0.0, 0.0),
        false_alarm_rate=0.05,
        alignment=None,
        defects=[],
        points=points,
        point_scores=np.zeros(count, np.float32),
        deviation=np.zeros(count),
        displacement=np.zeros((count, 3)),
        limits=np.tile([-1.0, 1.0], (count, 1)),
        source=path,
    )


def put(folder: Path, name: str, value: float = 0.0) -> Path:
    """A scan, renamed into place as a careful writer does."""
    points = np.random.default_rng(0).random((20, 3))
    points[0, 0] = value
    part = folder / f".{name}.part"
    with open(part, "wb") as file:
        np.save(file, points)
    return part.rename(folder / name)


@pytest.fixture
def places(tmp_path) -> tuple[Path, Path]:
    (tmp_path / "in").mkdir()
    return tmp_path / "in", tmp_path / "out"


def run(places, inspect=judged, *, settle=0.05, pages="none", stop=None, once=True) -> list[str]:
    """A watcher from start to end; the lines it said."""
    inbox, out = places
    journal, said = Journal(out, title="part", settings={}, pages=pages), []
    watcher = Watcher(inspect, Inbox(inbox, accepted(None), settle), journal, title="part", say=said.append)
    try:
        watcher.run(stop or Stop(), poll=0.01, once=once)
    finally:
        journal.close()
    return said


def results(out: Path) -> list[dict]:
    return sorted(
        (json.loads(f.read_text()) for f in (out / "results").glob("*.json")), key=lambda r: r["file"]["name"]
    )


def test_results_page_and_table(places):
    inbox, out = places
    for i, value in enumerate((-1, 2, -3)):
        put(inbox, f"scan{i}.npy", value)
    (inbox / "notes.txt").write_text("the night shift was here")
    said = run(places, pages="bad")
    found = results(out)
    assert [r["inspection"]["verdict"] for r in found] == ["OK", "NG", "OK"]
    assert found[1]["file"]["name"] == "scan1.npy" and len(said) == 3
    assert [bool(r["page"]) for r in found] == [False, True, False]
    assert (out / found[1]["page"]).stat().st_size > 10_000
    page = (out / "index.html").read_text()
    assert '<b style="color:#c0392b">1</b>NG' in page and page.count("<tr>") == 4 and found[1]["page"] in page
    row = {"file": "a", "page": None, "note": "", "score": None, "worst_kind": None, "verdict": "OK"}
    old = index_page([row | {"time": "2020-03-04T12:00:00+00:00"}], {"OK": 1}, title="", state="")
    assert "<small>2020-03-04</small>" in old and '"when"><' not in page
    table = (out / "parts.csv").read_text().splitlines()
    assert len(table) == 4 and table[0].startswith("time,file,verdict,score")
    assert run(places) == []  # nothing twice
    put(inbox, "scan0.npy", 5)  # the same name again is another scan
    assert len(run(places)) == 1
    assert sorted(r["inspection"]["verdict"] for r in results(out)) == ["NG", "NG", "OK", "OK"]


def forked(places: tuple[Path, Path], log: Path) -> None:
    def noted(path: Path) -> Inspection:
        with open(log, "a") as file:
            file.write(path.name + "\n")
        time.sleep(0.01)
        return judged(path)

    run(places, noted)


def test_kill_9_in_a_loop_loses_nothing_and_repeats_nothing(places, tmp_path, monkeypatch):
    monkeypatch.setattr("r3dad.line.journal.ATTEMPTS", 1000)  # on a busy machine five kills may meet the same scan
    inbox, out = places
    log, rng = tmp_path / "log", np.random.default_rng(0)
    for i in range(80):
        put(inbox, f"scan{i:03}.npy", float(i % 2))
    written: dict[str, tuple[int, int]] = {}
    kills = 0
    for k in range(400):
        child = multiprocessing.get_context("fork").Process(target=forked, args=(places, log))
        child.start()
        child.join(float(rng.uniform(0.08, 0.2 + 0.005 * k)))  # a slow machine gets its turn too
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
        for file in (out / "results").glob("*.json"):
            stat = file.stat()
            assert written.setdefault(file.name, (stat.st_ino, stat.st_mtime_ns)) == (stat.st_ino, stat.st_mtime_ns)
        if child.exitcode == 0:
            break
    assert child.exitcode == 0 and kills >= 3
    found = results(out)
    assert [r["file"]["name"] for r in found] == [f"scan{i:03}.npy" for i in range(80)]
    assert [r["inspection"]["verdict"] for r in found] == ["OK", "NG"] * 40
    looked = log.read_text().split()
    assert set(looked) == {f"scan{i:03}.npy" for i in range(80)} and len(looked) <= 80 + kills
    assert len((out / "parts.csv").read_text().splitlines()) == 81
    assert not [f for f in (out / "results").iterdir() if f.suffix != ".json" and not f.name.startswith(".")]


def test_a_file_that_is_being_written_is_waited_for(places):
    inbox, out = places
    whole = put(inbox, "whole.npy").read_bytes()
    (inbox / "whole.npy").unlink()

    def write() -> None:
        with open(inbox / "slow.npy", "wb") as file:
            for i in range(0, len(whole), 60):
                file.write(whole[i : i + 60])
                file.flush()
                time.sleep(0.08)

    writer = threading.Thread(target=write)
    stop = Stop()
    watcher = threading.Thread(target=run, args=(places,), kwargs={"settle": 0.4, "stop": stop, "once": False})
    writer.start()
    watcher.start()
    writer.join()
    assert not results(out)
    time.sleep(1.0)
    stop.ask()
    watcher.join()
    (result,) = results(out)
    assert result["inspection"]["verdict"] == "OK" and result["inspection"]["points"] == 20


def test_renamed_into_place_is_whole_at_once_written_in_place_is_not(places):
    inbox, _ = places
    box = Inbox(inbox, accepted(None), settle=60)
    hidden = inbox / ".a.part"
    np.save(inbox / "b.npy", np.zeros((3, 3)))
    hidden.write_bytes((inbox / "b.npy").read_bytes())
    assert box.look(()) == ([], 1)
    time.sleep(0.02)
    hidden.rename(inbox / "a.npy")
    ready, waiting = box.look(())
    assert [a.path.name for a in ready] == ["a.npy"] and waiting == 1
    os.utime(inbox / "b.npy", (1e9, 1e9))  # as cp -p does when it has written all
    assert [a.path.name for a in box.look(())[0]] == ["b.npy", "a.npy"]


def test_a_file_without_change_is_whole_after_its_time(places, monkeypatch):
    inbox, _ = places
    np.save(inbox / "a.npy", np.zeros((3, 3)))
    box, now = Inbox(inbox, accepted(None), settle=2.0), 100.0
    monkeypatch.setattr("r3dad.line.inbox.time.monotonic", lambda: now)
    assert box.look(()) == ([], 1)
    now = 101.9
    assert box.look(()) == ([], 1)
    now = 102.1
    ready, _ = box.look(())
    assert [a.path.name for a in ready] == ["a.npy"]
    assert box.look({ready[0].key}) == ([], 0)


def test_what_cannot_be_read_is_reported_once_and_the_line_goes_on(places):
    inbox, out = places
    (inbox / "a.ply").write_bytes(b"ply\nnot at all")
    (inbox / "b.npy").write_bytes(b"")
    os.mkfifo(inbox / "pipe.ply")
    (inbox / "folder.ply").mkdir()
    put(inbox, "c.npy")
    os.rename(put(inbox, "d.npy"), os.fsencode(inbox) + b"/\xff<b>.npy")
    said = run(places)
    assert len(said) == 4 and run(places) == []
    found = results(out)
    assert [r["inspection"]["verdict"] for r in found] == ["UNREADABLE", "UNREADABLE", "OK", "OK"]
    assert "PLY header" in found[0]["inspection"]["note"] and "empty" in found[1]["inspection"]["note"]
    assert "\ufffd&lt;b&gt;.npy" in (out / "index.html").read_text()


def test_a_fault_of_ours_is_a_result_too(places):
    put(places[0], "a.npy")

    def broken(path: Path) -> Inspection:
        raise ZeroDivisionError("one\nby zero")

    (line_,) = run(places, broken)
    assert "could not be inspected (ZeroDivisionError: one by zero)" in line_ and run(places) == []


def test_a_scan_that_ends_the_program_is_given_up(places):
    inbox, out = places
    put(inbox, "a.npy")
    put(inbox, "b.npy")

    def deadly(path: Path) -> Inspection:
        if path.name == "a.npy":
            os._exit(9)
        return judged(path)

    codes = []
    for _ in range(ATTEMPTS + 1):
        child = multiprocessing.get_context("fork").Process(target=run, args=(places, deadly))
        child.start()
        child.join()
        codes.append(child.exitcode)
    assert codes == [9] * ATTEMPTS + [0]
    a, b = results(out)
    assert a["inspection"]["verdict"] == "UNREADABLE" and "ended 5 times" in a["inspection"]["note"]
    assert b["inspection"]["verdict"] == "OK"


def test_written_to_while_it_was_read(places):
    """The first look's result is dropped, the second look's kept."""
    path = put(places[0], "a.npy")
    looks = []

    def meddled(file: Path) -> Inspection:
        inspection = judged(file)
        if not looks:
            put(places[0], "a.npy", 7.0)
        looks.append(inspection)
        return inspection

    run(places, meddled)
    (result,) = results(places[1])
    assert len(looks) == 2 and result["inspection"]["verdict"] == "NG"
    assert result["file"]["changed_ns"] == Arrival.of(path).changed


def test_a_full_disk_is_waited_out(places, monkeypatch):
    put(places[0], "a.npy")
    monkeypatch.setattr(line, "AGAIN", 0.01)
    real, tries = Journal.record, []

    def full(self, arrival, inspection):
        tries.append(arrival)
        if len(tries) < 3:
            raise InputError("out: cannot be written (No space left on device)")
        return real(self, arrival, inspection)

    monkeypatch.setattr(Journal, "record", full)
    said = run(places)
    assert said[:2] == ["waiting: out: cannot be written (No space left on device)"] * 2 and said[2].startswith("OK")
    assert len(results(places[1])) == 1


def test_one_watcher_per_folder_and_a_table_that_was_cut(places):
    inbox, out = places
    put(inbox, "a.npy")
    run(places)
    (out / "parts.csv").write_text((out / "parts.csv").read_text()[:-9])
    journal = Journal(out, title="", settings={})
    assert (out / "parts.csv").read_text().count("a.npy") == 1 and (out / "parts.csv").read_text().endswith("\n")
    with pytest.raises(InputError, match="another watcher writes there"):
        Journal(out, title="", settings={})
    journal.close()
    next((out / "results").glob("*.json")).write_text("{")
    with pytest.raises(InputError, match="no result of a watcher; remove it"):
        Journal(out, title="", settings={})


def test_suffixes_that_are_accepted():
    assert accepted("PLY, .pcd") == (".ply", ".pcd") and ".csv" not in accepted(None) and ".csv" in accepted("csv")
    with pytest.raises(InputError, match="accept 'doc'"):
        accepted("doc")


def test_the_command_from_start_to_sigterm(places, tmp_path):
    inbox, out = places
    model = tmp_path / "block.safetensors"
    Detector("paper", **TINY).fit([block_scan(i) for i in range(3)]).save(model)
    np.save(inbox / "a.npy", block_scan(9))
    command = [sys.executable, "-m", "r3dad", "watch", str(model), str(inbox), "--out", str(out), "--settle", "0.2"]
    process = subprocess.Popen([*command, "--pages", "all"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(400):
        if list(out.glob("results/*.json")):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "inspected: 1 " in stdout and "; 1 in all" in stdout and "Traceback" not in stderr
    (result,) = results(out)
    assert result["inspection"]["points"] == 600 and (out / result["page"]).exists()
    assert re.search(r"(OK|NG) a\.npy", stderr)
    (inbox / "b.npy").write_bytes(b"junk")
    done = subprocess.run([*command, "--once"], capture_output=True, text=True)
    assert done.returncode == 1 and "inspected: 1 UNREADABLE; 2 in all" in done.stdout
