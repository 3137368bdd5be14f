"""``r3dad serve``: a scan in, an inspection out; what is no scan gets one line; nothing stays, nothing dies."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
import httpx  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from r3dad import cli  # noqa: E402
from r3dad.detector import Detector  # noqa: E402
from r3dad.errors import InputError  # noqa: E402
from r3dad.line.serve.app import make_app, work_folder  # noqa: E402
from r3dad.line.serve.gate import ADDRESSES, Rate  # noqa: E402
from r3dad.line.serve.metrics import Metrics  # noqa: E402
from r3dad.line.serve.pool import Busy, Failed, Pool, Refused  # noqa: E402
from r3dad.line.serve.settings import ServeConfig, is_loopback, named_models, read_token  # noqa: E402
from r3dad.line.serve.store import Kept, Store  # noqa: E402
from r3dad.scans import read_scan  # noqa: E402
from tests.conftest import TINY, block_scan  # noqa: E402

TOKEN = "a-token-of-some-length"


def npy(points: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, points)
    return data.getvalue()


SCAN = npy(block_scan(9))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "block.safetensors"
    Detector("paper", **TINY).fit([block_scan(i) for i in range(3)]).save(path)
    return path


@pytest.fixture(scope="module")
def pool(model):
    made = Pool({"block": model}, workers=1, threads=1, waiting=4, most_points=50_000, timeout=20)
    yield made
    made.close()


class Scripted:
    """A pool that gives what it is told to: an inspection, an error, or a future."""

    about = {"block": {"recipe": "paper", "threshold": 1.0, "false_alarm_rate": 0.05}}
    waiting, alive, restarts, retry_after = 3, 1, 0, 7
    pids = [os.getpid()]

    def __init__(self, *answers) -> None:
        self.answers, self.jobs = list(answers), []

    def submit(self, job) -> Future:
        self.jobs.append(job)
        answer = self.answers.pop(0) if self.answers else {"name": "a", "verdict": "OK", "score": 0.1}
        if isinstance(answer, Busy):
            raise answer
        future: Future = Future()
        future.set_exception(answer) if isinstance(answer, Exception) else future.set_result(answer)
        return future


@contextlib.contextmanager
def client(pool, folder: Path, **settings):
    config = ServeConfig(**settings)
    with TestClient(make_app(pool, config, folder), base_url="http://localhost", raise_server_exceptions=False) as http:
        yield http


def post(http, data: bytes = SCAN, name: str = "part.npy", model: str = "block", **more):
    return http.post(f"/v1/models/{model}/inspect", files={"scan": (name, data)}, **more)


def line_of(response) -> str:
    """The one line of an error, without anything of ours in it."""
    (key,) = response.json()
    line = response.json()["error"]
    assert key == "error" and "\n" not in line and "Traceback" not in line and "/tmp" not in line
    return line


def test_a_scan_gets_what_the_detector_says_of_it_and_its_page(pool, model, tmp_path):
    with client(pool, tmp_path) as http:
        answer = post(http)
        assert answer.status_code == 200, answer.text
        got = answer.json()
        file = tmp_path / "part.npy"
        file.write_bytes(SCAN)
        expected = Detector.load(model).inspect(read_scan(file)).to_json()
        assert {**got["inspection"], "seconds": 0} == {**expected, "seconds": 0}
        assert got["model"] == "block" and http.get(f"/v1/results/{got['id']}").json() == got
        assert http.get("/v1/results").json()["results"][0]["id"] == got["id"]
        for _ in range(2):
            page = http.get(got["report"])
            assert page.status_code == 200 and b"part" in page.content and page.content[:15] == b"<!doctype html>"
        assert http.get("/v1/models").json()["models"]["block"]["recipe"] == "paper"
        assert http.get("/health").json() == {"status": "ok", "workers": 1, "waiting": 0}
        text = http.get("/metrics").text
        verdict = got["inspection"]["verdict"]
        assert f'r3dad_inspections_total{{model="block",verdict="{verdict}"}} 1\n' in text
        assert (
            'r3dad_answers_total{endpoint="inspect",status="200"} 1\n' in text
            and "r3dad_inspect_seconds_count 1\n" in text
        )
        assert re.search(r'r3dad_resident_bytes\{process="worker0"\} [1-9]', text)
        paths = http.get("/openapi.json").json()["paths"]
        assert (
            "/v1/models/{model}/inspect" in paths and "503" in paths["/v1/models/{model}/inspect"]["post"]["responses"]
        )


def bomb() -> bytes:
    """96 MB of zeros in under 100 kB."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.npy", npy(np.zeros((4_000_000, 3))))
    return data.getvalue()


BAD = {
    "wrong suffix": ("part.exe", b"MZ", 415, "unknown suffix '.exe'; expected one of .pcd"),
    "no suffix": ("part", SCAN, 415, r"unknown suffix '\(none\)'"),
    "wrong format": ("part.ply", SCAN, 422, "part.ply: expected PLY, its content is NPY; rename it to part.npy"),
    "noise": ("part.pcd", bytes(range(256)) * 9, 422, "^part.pcd: "),
    "truncated": ("part.npy", SCAN[:-300], 422, "the file is cut, copy it again"),
    "empty": ("part.npy", b"", 422, "part.npy: the file is empty"),
    "too few points": ("part.npy", npy(np.zeros((1, 3))), 422, "^part.npy: "),
    "not numbers": ("part.xyz", b"a b c\n1 2 x\n", 422, "^part.xyz: "),
    "too many points": ("part.npy", npy(np.zeros((50_001, 3))), 422, "at most 50,000 points, found 50,001; thin"),
    "bomb": ("part.npz", None, 422, "at most 50,000 points, found 4,000,000"),
    "pickle": ("part.npy", npy(np.array([{}], dtype=object)), 422, "pickle is never opened"),
    "a path": ("../../part.npy", SCAN, 400, "without folders"),
    "an absolute path": ("/etc/part.npy", SCAN, 400, "without folders"),
    "a path of Windows": ("..\\part.npy", SCAN, 400, "without folders"),
    "hidden": (".part.npy", SCAN, 400, "without folders"),
    "a long name": ("x" * 300 + ".npy", SCAN, 400, "at most 200 bytes"),
    "too large": ("part.npy", b"\0" * (3 << 20), 413, "at most 2 MiB; thin"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_scan_gets_one_line_and_leaves_nothing(pool, tmp_path, kind):
    name, data, status, words = BAD[kind]
    with client(pool, tmp_path, most_bytes=2 << 20) as http:
        answer = post(http, bomb() if data is None else data, name)
        assert answer.status_code == status and re.search(words, line_of(answer))
        assert not list(tmp_path.iterdir())
        assert post(http).status_code == 200


def test_the_line_is_that_of_the_command(pool, tmp_path):
    """As `r3dad.scans` says it, with the client's name in the place of the server's path."""
    for name, data, status, _ in BAD.values():
        if status in (415, 422) and data is not None and "points" not in name:
            file = tmp_path / "own" / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(data)
            try:
                read_scan(file)
            except InputError as error:
                with client(pool, tmp_path) as http:
                    assert line_of(post(http, data, name)) == str(error).replace(f"{file.parent}/", "")


def test_a_length_that_is_not_told_is_counted(tmp_path):
    """Chunks without Content-Length: the body ends where the limit is, whatever was promised."""

    def chunks():
        yield b'--x\r\nContent-Disposition: form-data; name="scan"; filename="a.npy"\r\n\r\n'
        for _ in range(64):
            yield b"\0" * (1 << 20)

    pool = Scripted()
    with client(pool, tmp_path, most_bytes=1 << 20) as http:
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = http.post("/v1/models/block/inspect", content=chunks(), headers=kind)
    assert answer.status_code == 413 and "at most 1 MiB" in line_of(answer) and not pool.jobs


def test_forms_without_a_scan(tmp_path):
    with client(Scripted(), tmp_path) as http:
        url = "/v1/models/block/inspect"
        for answer in (
            http.post(url),
            http.post(url, content=b"{}", headers={"Content-Type": "application/json"}),
            http.post(url, data={"scan": "part.npy"}),
            http.post(url, files={"file": ("a.npy", SCAN)}),
            http.post(url, content=b"--x\r\n", headers={"Content-Type": "multipart/form-data"}),
            http.post(url, content=b"junk", headers={"Content-Type": "multipart/form-data; boundary=x"}),
        ):
            assert answer.status_code == 400, answer.text
            assert line_of(answer)
        assert post(http, model="door").status_code == 404 and "there are block" in line_of(post(http, model="door"))
        for path in ("/v1/results/nothing", "/v1/results/..%2f..%2fetc/report", "/nowhere", "/docs"):
            assert http.get(path).status_code == 404 and line_of(http.get(path))
        assert http.get("/v1/models/block/inspect").status_code == 405
        assert "POST scans to /v1/models/NAME/inspect" in line_of(http.get("/"))


def test_a_full_queue_and_a_failed_worker(tmp_path):
    answers = (Busy(), Failed("the worker ended (exit code -9) over this scan"), Refused("{file}: is {no} scan"))
    with client(Scripted(*answers), tmp_path) as http:
        busy = post(http)
        assert busy.status_code == 503 and busy.headers["Retry-After"] == "7" and "3 scans are waiting" in line_of(busy)
        failed = post(http)
        assert (
            failed.status_code == 500 and line_of(failed) == "part.npy: the worker ended (exit code -9) over this scan"
        )
        refused = post(http)
        assert refused.status_code == 422 and line_of(refused) == "part.npy: is {no} scan"
        assert not list(tmp_path.iterdir())


def test_token_by_header_and_by_browser(tmp_path):
    with client(Scripted(), tmp_path, token=TOKEN) as http:
        basic = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
        for given in (
            None,
            "",
            "Bearer",
            f"Bearer {TOKEN}x",
            "Bearer \xff",
            f"Token {TOKEN}",
            "Basic !",
            f"Basic {basic[:-4]}",
        ):
            headers = {} if given is None else {"Authorization": given.encode("latin1")}
            for path in ("/v1/models", "/metrics", "/openapi.json"):
                answer = http.get(path, headers=headers)
                assert answer.status_code == 401 and TOKEN not in answer.text and line_of(answer)
            assert post(http, headers=headers).status_code == 401
        for given in (f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Basic {basic}"):
            assert post(http, headers={"Authorization": given, "Host": "scanner.example"}).status_code == 200
        assert http.get("/health").status_code == 200


def test_without_a_token_only_this_machine_is_answered(tmp_path):
    with client(Scripted(), tmp_path) as http:
        for host in ("localhost", "127.0.0.1:8750", "[::1]:8750"):
            assert http.get("/v1/models", headers={"Host": host}).status_code == 200
        for host in ("evil.example", "localhost.evil.example", "", "[::1", "192.168.1.2"):
            assert http.get("/v1/models", headers={"Host": host}).status_code == 403


def test_ten_thousand_tiny_requests(tmp_path):
    with client(Scripted(), tmp_path, rate=1) as http:
        codes: dict[int, int] = {}
        for i in range(2000):
            answer = http.get("/v1/results") if i % 2 else http.post("/v1/models/block/inspect", content=b"x")
            codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
        assert codes[429] > 1900 and set(codes) <= {200, 400, 429}
        refused = next(a for a in (http.get("/v1/results") for _ in range(9)) if a.status_code == 429)
        assert int(refused.headers["Retry-After"]) >= 1 and "more than 1 requests a second" in line_of(refused)
        assert http.get("/health").status_code == 200
        time.sleep(2.1)
        assert post(http).status_code == 200
        metrics = http.get("/metrics")
        assert metrics.status_code == 200 and len(metrics.text) < 5000
    rate = Rate(5)
    for i in range(10_000 + 2 * ADDRESSES):
        rate.wait(str(i))
    assert len(rate._left) == ADDRESSES


def test_rate_refills(monkeypatch):
    now = 0.0
    monkeypatch.setattr("r3dad.line.serve.gate.time.monotonic", lambda: now)
    rate = Rate(4)
    assert [rate.wait("a") > 0 for _ in range(9)] == [False] * 8 + [True]
    assert rate.wait("b") == 0
    now = 0.25
    assert rate.wait("a") == 0 and rate.wait("a") == pytest.approx(0.25)


def test_the_store_is_bounded(tmp_path):
    store = Store(tmp_path, 3, 100)
    for i, size in enumerate((10, 10, 10, 10, 95)):
        mark, folder = store.room()
        (folder / "a").write_bytes(b"x")
        store.add(Kept(mark, "m", folder / "a", size, {"i": i}))
    assert [k.inspection["i"] for k in store.latest()] == [4]
    assert [f.name for f in tmp_path.iterdir()] == [store.latest()[0].id]
    with client(Scripted(), tmp_path, keep=2) as http:
        first = post(http).json()["id"]
        for _ in range(3):
            post(http)
        assert (
            len(http.get("/v1/results").json()["results"]) == 2 and http.get(f"/v1/results/{first}").status_code == 404
        )
    assert len(list(tmp_path.iterdir())) == 3


def test_a_worker_that_dies_or_hangs_is_replaced(pool, tmp_path):
    file = tmp_path / "a.npy"
    file.write_bytes(SCAN)
    job = {"model": "block", "file": str(file)}
    assert pool.submit(job).result(60)["verdict"] in ("OK", "NG")
    before = pool.restarts
    os.kill(pool.pids[0], signal.SIGSTOP)  # hangs; a second later it is killed
    hanging, waiting = pool.submit(job), pool.submit(job)
    time.sleep(0.3)
    os.kill(pool.pids[0], signal.SIGKILL)
    with pytest.raises(Failed, match=r"exit code -9"):
        hanging.result(60)
    assert waiting.result(60)["verdict"] in ("OK", "NG") and pool.restarts == before + 1
    pool._timeout, kept = 0.2, pool._timeout
    os.kill(pool.pids[0], signal.SIGSTOP)
    with pytest.raises(Failed, match="took too long"):
        pool.submit(job).result(60)
    pool._timeout = kept
    assert pool.submit(job).result(60)["verdict"] in ("OK", "NG") and pool.restarts == before + 2
    with ThreadPoolExecutor(8) as threads:
        os.kill(pool.pids[0], signal.SIGSTOP)

        def one(_):
            try:
                return pool.submit(job)
            except Busy:
                return None

        futures = list(threads.map(one, range(8)))
        assert futures.count(None) >= 3 and pool.retry_after >= 1
        os.kill(pool.pids[0], signal.SIGCONT)
        assert all(f.result(60) for f in futures if f)


def test_waiting_scans_are_inspected_together(model, tmp_path):
    """A worker that has waited takes what has gathered; each answer is that of its scan alone."""
    files = [tmp_path / f"{i}.npy" for i in range(5)]
    for i, file in enumerate(files):
        file.write_bytes(npy(block_scan(20 + i, dent=2.0 * (i % 2))) if i != 3 else b"junk")
    jobs = [{"model": "block", "file": str(file)} for file in files]
    made = Pool({"block": model}, workers=1, threads=1, waiting=8, most_points=50_000, timeout=20, batch=4)
    try:
        plain = Detector.load(model)
        for ended in (signal.SIGCONT, signal.SIGKILL):  # goes on; dies over several scans, which costs none of them
            os.kill(made.pids[0], signal.SIGSTOP)
            futures = [made.submit(job) for job in jobs]
            time.sleep(0.3)
            os.kill(made.pids[0], ended)
            for i, future in enumerate(futures):
                if i == 3:
                    with pytest.raises(Refused, match="expected NPY"):
                        future.result(60)
                elif i or ended == signal.SIGCONT:  # the first went alone, before others waited
                    expected = plain.inspect(files[i]).to_json()
                    assert {**future.result(60), "seconds": 0} == {**expected, "seconds": 0}
        assert made.restarts == 1
    finally:
        made.close()


def test_a_list_of_jobs_is_one_batch_of_the_kernels(model, tmp_path, monkeypatch):
    from r3dad.line.serve.worker import _answers

    detectors, seen = {"a": Detector.load(model), "b": Detector.load(model)}, []
    recipe = type(detectors["a"].recipe)
    real = recipe.predict_many
    monkeypatch.setattr(recipe, "predict_many", lambda self, clouds: seen.append(len(clouds)) or real(self, clouds))
    for i in range(4):
        (tmp_path / f"{i}.npy").write_bytes(npy(block_scan(i)))
    jobs = [{"model": name, "file": str(tmp_path / f"{i}.npy")} for i, name in enumerate("aaba")]
    assert [i for i, _ in _answers(detectors, jobs, 50_000)] == [0, 1, 3, 2] and seen == [3, 1]
    (tmp_path / "1.npy").write_bytes(b"junk")
    answers = dict(_answers(detectors, [*jobs, {**jobs[0], "page": str(tmp_path / "page")}], 50_000))
    assert ["error" in answers[i] for i in range(5)] == [False, True, False, False, False]
    assert (tmp_path / "page" / "report.html").is_file()


def test_what_workers_say_is_json(model):
    from r3dad.line.serve.worker import _about, _send

    detector = Detector.load(model)
    detector.recipe.threshold = np.inf
    assert _about(detector)["threshold"] is None
    sent: list[bytes] = []
    pipe = type("Pipe", (), {"send_bytes": staticmethod(sent.append)})
    _send(pipe, {"inspection": {"score": float("nan")}})
    _send(pipe, {"inspection": {"score": 1.5}})
    assert "fault" in json.loads(sent[0]) and json.loads(sent[1]) == {"inspection": {"score": 1.5}}


def test_arguments(tmp_path, monkeypatch, model):
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("0.0.0.0") and not is_loopback("10.0.0.1") and not is_loopback("example.com")
    (tmp_path / "token").write_text(f"{TOKEN}\nnext line\n")
    assert read_token(tmp_path / "token") == TOKEN and read_token(None) is None
    monkeypatch.setenv("R3DAD_TOKEN", "short")
    with pytest.raises(InputError, match="R3DAD_TOKEN: expected a token of at least 16"):
        read_token(None)
    with pytest.raises(InputError, match="cannot be read"):
        read_token(tmp_path / "none")
    with pytest.raises(InputError, match="name block is given already"):
        named_models([model, tmp_path / "block.safetensors"])
    monkeypatch.delenv("R3DAD_TOKEN")
    for arguments, words in (
        (["--host", "0.0.0.0"], "host 0.0.0.0: others would reach it; give --token-file"),
        (["--work", str(model)], "cannot be written"),
    ):
        monkeypatch.setattr(sys, "argv", ["r3dad", "serve", str(model), "--port", "0", *arguments])
        err = io.StringIO()
        with pytest.raises(SystemExit) as end, contextlib.redirect_stderr(err):
            cli.main()
        assert end.value.code == 2 and words in err.getvalue()


def test_metrics_escape_names():
    metrics = Metrics()
    metrics.inspected('a"b\\c\n', "OK")
    assert 'model="a\\"b\\\\c\\n"' in metrics.text({}, {})


def test_uploads_lie_in_the_work_folder_and_go_with_it(tmp_path):
    import tempfile

    before = tempfile.gettempdir()
    with work_folder(tmp_path / "deep") as folder:
        assert Path(tempfile.gettempdir()) == folder / "uploads" and folder.parent == tmp_path / "deep"
    assert tempfile.gettempdir() == before and not list((tmp_path / "deep").iterdir())


def test_the_command_from_start_to_sigterm(model, tmp_path):
    """A real server: scans at once from many clients, a slow one, garbage on the socket; then a polite end that leaves nothing."""
    command = [sys.executable, "-m", "r3dad", "serve", str(model), "--port", "0", "--work", str(tmp_path / "w")]
    process = subprocess.Popen([*command, "--timeout", "15", "--queue", "4"], stderr=subprocess.PIPE, text=True)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr))
    try:
        first = process.stderr.readline()
        reader.start()
        url = re.search(r"http://127\.0\.0\.1:\d+", first)[0]
        with httpx.Client(base_url=url, timeout=60) as http, ThreadPoolExecutor(12) as threads:
            codes = list(threads.map(lambda i: post(http, SCAN, f"part{i}.npy").status_code, range(24)))
            assert set(codes) <= {200, 503} and codes.count(200) >= 5
            import socket

            host, port = url[7:].split(":")
            for junk in (
                b"\0" * 100,
                b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000,
                b"POST /v1/models/block/inspect HTTP/1.1\r\n",
            ):
                with socket.create_connection((host, int(port)), 5) as connection, contextlib.suppress(OSError):
                    connection.sendall(junk)
            assert post(http).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    reader.join()
    assert not [line for line in lines if "Traceback" in line] and not list((tmp_path / "w").iterdir())
