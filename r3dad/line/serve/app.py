"""The HTTP interface: routes, their errors, and the server around them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from r3dad import __version__
from r3dad.errors import InputError
from r3dad.line.serve.gate import Gate, refusal, too_large
from r3dad.line.serve.metrics import Metrics, resident
from r3dad.line.serve.pool import Busy, Failed, Pool, Refused
from r3dad.line.serve.settings import ServeConfig, is_loopback
from r3dad.line.serve.store import Kept, Store
from r3dad.scans import SUFFIXES

log = logging.getLogger("r3dad.serve")
LONGEST_NAME = 200
"""Bytes of a scan's name."""
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "content": {"application/json": {"example": {"error": "one line"}}}}
    for status, words in {
        400: "no scan in the form, or a name that is none",
        401: "no or a wrong token",
        404: "no such model or result",
        413: "more bytes than the server takes",
        415: "a suffix that is not read",
        422: "the scan cannot be read or used; the line is that of the command line",
        429: "more requests than the server takes; Retry-After says when",
        500: "the inspection failed",
        503: "the queue is full; Retry-After says when",
    }.items()
}


def make_app(pool: Pool, config: ServeConfig, folder: Path) -> FastAPI:
    """The application. folder: work folder that exists; everything the server writes lies in it."""
    app = FastAPI(title="r3dad", version=__version__, docs_url=None, redoc_url=None)  # their pages load from elsewhere
    metrics, store = Metrics(), Store(folder, config.keep, config.keep_bytes)
    app.add_middleware(Gate, config=config, metrics=metrics)
    _errors(app)

    async def ask(job: dict[str, Any], name: str) -> dict[str, Any]:
        """The pool's answer, or the HTTP error that stands for it."""
        try:
            return await asyncio.wrap_future(pool.submit(job))
        except Busy:
            line = f"{pool.waiting} scans are waiting already; send it again later"
            raise HTTPException(503, line, {"Retry-After": str(pool.retry_after)}) from None
        except Refused as error:
            raise HTTPException(422, str(error).replace("{file}", name)) from None
        except Failed as error:
            raise HTTPException(500, f"{name}: {error}") from None

    @app.post("/v1/models/{model}/inspect", responses=_ERRORS)
    async def inspect(model: str, scan: Annotated[UploadFile, File(description="A scan file.")]) -> dict[str, Any]:
        """Inspect a scan: `{"id", "model", "report", "inspection"}`; the inspection as in docs/inspect.md."""
        if model not in pool.about:
            raise HTTPException(404, f"no model {model!r}; there are {', '.join(pool.about)}")
        name = _name(scan.filename)
        mark, place = store.room()
        try:
            file = place / name
            size = await asyncio.to_thread(_save, scan, file)
            if size > config.most_bytes:
                raise HTTPException(413, f"{name}: {too_large(config)}")
            inspection = await ask({"model": model, "file": str(file)}, name)
        except BaseException:
            store.drop(mark)
            raise
        kept = Kept(mark, model, file, size, inspection)
        store.add(kept)
        metrics.inspected(model, inspection["verdict"])
        return kept.to_json()

    def kept_of(result: str) -> Kept:
        kept = store.get(result)
        if kept is None:
            raise HTTPException(404, f"no result {result[:40]!r}; the latest {config.keep} are kept")
        return kept

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Models by name: recipe, threshold, false-alarm rate."""
        return {"models": pool.about}

    @app.get("/v1/results")
    async def results() -> dict[str, Any]:
        """The results that are kept, latest first, without their defects."""
        rows = [
            {"id": k.id, "model": k.model, **{n: k.inspection[n] for n in ("name", "verdict", "score")}}
            for k in store.latest()
        ]
        return {"results": rows}

    @app.get("/v1/results/{result}", responses={404: _ERRORS[404]})
    async def result_of(result: str) -> dict[str, Any]:
        """A result again."""
        return kept_of(result).to_json()

    @app.get("/v1/results/{result}/report", response_class=FileResponse, responses={404: _ERRORS[404]})
    async def report(result: str) -> Response:
        """The page of a result: made when it is first asked for."""
        kept = kept_of(result)
        if kept.page is None:
            folder = kept.file.parent / ".page"  # names of scans do not begin with a dot
            await ask({"model": kept.model, "file": str(kept.file), "page": str(folder)}, kept.file.name)
            for made in folder.iterdir():  # the page holds what it shows; clouds and tables are for batches
                if made.name != "report.html":
                    shutil.rmtree(made) if made.is_dir() else made.unlink()
            if kept.page is None:
                kept.page = folder / "report.html"
                kept.size += kept.page.stat().st_size
                store.shrink()
        return FileResponse(kept.page, media_type="text/html")

    @app.get("/health")
    async def health() -> Response:
        """200 while a worker runs, else 503."""
        body = {"status": "ok" if pool.alive else "no worker", "workers": pool.alive, "waiting": pool.waiting}
        return JSONResponse(body, 200 if pool.alive else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> PlainTextResponse:
        """Counters for Prometheus."""
        gauges = {
            "r3dad_queue_waiting": ("Scans that wait.", pool.waiting),
            "r3dad_workers_alive": ("Workers that run.", pool.alive),
            "r3dad_worker_restarts_total": ("Workers that died or hung.", pool.restarts),
            "r3dad_results_kept": ("Results that are kept.", len(store)),
        }
        memory = {"server": resident("self"), **{f"worker{i}": resident(pid) for i, pid in enumerate(pool.pids)}}
        return PlainTextResponse(metrics.text(gauges, memory), media_type="text/plain; version=0.0.4")

    return app


def _name(given: str | None) -> str:
    """The scan's file name, where it is one and its suffix is read. Raises HTTPException 400, 415."""
    name = given or ""
    if not name or name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
        raise HTTPException(400, f"{name[:80]!r}: expected the name of a file, without folders")
    if len(name.encode("utf-8", "replace")) > LONGEST_NAME:
        raise HTTPException(400, f"{name[:40]!r}...: expected a name of at most {LONGEST_NAME} bytes")
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        line = f"unknown suffix {suffix or '(none)'!r}; expected one of {' '.join(SUFFIXES)}; export or rename it"
        raise HTTPException(415, f"{name}: {line}")
    return name


def _save(scan: UploadFile, file: Path) -> int:
    with open(file, "xb") as out:
        shutil.copyfileobj(scan.file, out, 1 << 20)
        return out.tell()


def _errors(app: FastAPI) -> None:
    """Every error is ``{"error": one line}``."""

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        line = " ".join(str(error.detail).split())
        if line in ("Not Found", "Method Not Allowed"):  # no words of ours
            asked = f"{request.method} {request.url.path[:80]}"
            line = f"{asked}: no such request; POST scans to /v1/models/NAME/inspect; /openapi.json lists the others"
        return JSONResponse({"error": line}, error.status_code, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return refusal(400, "expected a form with the file in the field 'scan', as of: curl -F scan=@part.ply")

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        return refusal(500, "the server failed at this request; its log says more")


@contextlib.contextmanager
def work_folder(parent: Path | None) -> Iterator[Path]:
    """A folder of this server alone, removed with everything in it at the end. Raises InputError: it cannot be made."""
    try:
        if parent:
            parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix="r3dad-serve-", dir=parent)
    except OSError as error:
        raise InputError(f"{parent}: cannot be written ({error.strerror}); give another --work") from None
    before = tempfile.tempdir
    with folder as name:
        os.mkdir(os.path.join(name, "uploads"))
        os.mkdir(os.path.join(name, "results"))
        tempfile.tempdir = os.path.join(name, "uploads")  # uploads that are still coming in lie there
        try:
            yield Path(name)
        finally:
            tempfile.tempdir = before


def serve(
    models: dict[str, Path],
    config: ServeConfig,
    *,
    host: str,
    port: int,
    work: Path | None = None,
    device: str | None = None,
    started: Callable[[str, dict[str, Any]], None] = lambda url, about: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C. started: called with the address and what the models are, once requests are taken.

    Raises:
        InputError: a host that others reach without a token, a model that cannot be read, a port that is taken.
    """
    import uvicorn

    if config.token is None and not is_loopback(host):
        raise InputError(f"host {host}: others would reach it; give --token-file or R3DAD_TOKEN, or serve 127.0.0.1")
    options = uvicorn.Config(
        "", host=host, port=port, log_level="warning", access_log=False, server_header=False, timeout_keep_alive=5,
        limit_concurrency=config.queue + config.workers + 64, timeout_graceful_shutdown=10, lifespan="off",
    )  # fmt: skip
    try:
        socket = options.bind_socket()
    except (SystemExit, OSError):  # uvicorn logs the reason and ends the process
        raise InputError(f"{host}:{port}: cannot be listened on; is the port taken? give another --port") from None
    with contextlib.closing(socket), work_folder(work) as folder:
        pool = Pool(
            models,
            workers=config.workers,
            threads=config.threads,
            batch=config.batch,
            waiting=config.queue,
            most_points=config.most_points,
            timeout=config.timeout,
            device=device,
        )
        try:
            options.app = make_app(pool, config, folder / "results")
            started(f"http://{host}:{socket.getsockname()[1]}", pool.about)
            with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again when it is done
                uvicorn.Server(options).run(sockets=[socket])
        finally:
            pool.close()
