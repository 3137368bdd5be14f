"""Workers and the queue before them. A worker that dies or hangs costs its scan an error and is started again."""

from __future__ import annotations

import json
import logging
import multiprocessing
import queue
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from r3dad.errors import InputError
from r3dad.line.serve.worker import work

log = logging.getLogger("r3dad.serve")
STARTING = 180.0
"""Seconds that a worker may take to load its models."""


class Busy(Exception):
    """The queue is full."""


class Failed(Exception):
    """No fault of the scan's sender that we know of: the worker died, hung, or raised; one line for people."""


class Lost(Failed):
    """The worker is gone or has to go."""


class Refused(Exception):
    """The scan cannot be inspected; the line says ``{file}`` where its name belongs."""


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share torch's threads
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, *arguments), daemon=True, name="r3dad-worker")
        self.process.start()
        theirs.close()

    def receive(self, seconds: float) -> dict[str, Any]:
        """Its next message. Raises Lost: none came in time, or it ended."""
        try:
            if self._pipe.poll(seconds):
                return json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            self.process.join(5)
            raise Lost(f"the worker ended (exit code {self.process.exitcode}) over this scan") from None
        raise Lost(f"the inspection took over {seconds:.0f} s and was stopped")

    def ask(self, job: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Its answer to a job. Raises Lost."""
        try:
            self._pipe.send_bytes(json.dumps(job).encode())
        except OSError:
            raise Lost("the worker had ended; send the scan again") from None
        return self.receive(seconds)

    def end(self) -> None:
        self._pipe.close()
        self.process.join(0.5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Pool:
    """``workers`` processes behind one queue of at most ``waiting`` jobs.

    models: name -> file. timeout: seconds for one job. ``about`` says what each model is.

    Raises:
        InputError: a model cannot be read.
    """

    def __init__(
        self,
        models: dict[str, Path],
        *,
        workers: int,
        threads: int,
        waiting: int,
        most_points: int,
        timeout: float,
        device: str | None = None,
    ) -> None:
        self._arguments = ({name: str(file) for name, file in models.items()}, threads, most_points, device)
        self._timeout = timeout
        self._jobs: queue.Queue[tuple[dict[str, Any], Future[dict[str, Any]]] | None] = queue.Queue(waiting)
        self._ending = threading.Event()
        self.restarts = 0
        self.seconds_per_job = 0.5
        self._workers = [_Worker(self._arguments) for _ in range(workers)]
        try:
            self.about = [self._started(worker) for worker in self._workers][0]
        except (InputError, Lost):
            for worker in self._workers:
                worker.end()
            raise
        self._threads = [threading.Thread(target=self._serve, args=(i,), daemon=True) for i in range(workers)]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _started(worker: _Worker) -> dict[str, Any]:
        message = worker.receive(STARTING)
        if "error" in message:
            raise InputError(message["error"])
        return message["ready"]

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._jobs.qsize()

    @property
    def alive(self) -> int:
        """Workers that run."""
        return sum(worker.process.is_alive() for worker in self._workers)

    @property
    def pids(self) -> list[int]:
        """Of the workers."""
        return [worker.process.pid or 0 for worker in self._workers]

    @property
    def retry_after(self) -> int:
        """Seconds after which the queue should have room."""
        return max(1, round(self.waiting * self.seconds_per_job / len(self._workers)))

    def submit(self, job: dict[str, Any]) -> Future[dict[str, Any]]:
        """The inspection's JSON in time, or Failed or Refused as the future's exception. Raises Busy."""
        future: Future[dict[str, Any]] = Future()
        try:
            self._jobs.put_nowait((job, future))
        except queue.Full:
            raise Busy from None
        return future

    def _serve(self, i: int) -> None:
        while (item := self._jobs.get()) is not None:
            job, future = item
            if not future.set_running_or_notify_cancel():  # nobody waits for it any more
                continue
            started = time.monotonic()
            try:
                answer = self._workers[i].ask(job, self._timeout)
                if "fault" in answer:
                    log.error("model %s: %s", job["model"], answer["fault"])
                    raise Failed("this scan could not be inspected; the server's log says more")
                if "error" in answer:
                    raise Refused(answer["error"])
                future.set_result(answer["inspection"])
            except (Failed, Refused) as error:
                future.set_exception(error)
                if isinstance(error, Lost):
                    self._again(i, error)
            self.seconds_per_job += 0.1 * (time.monotonic() - started - self.seconds_per_job)

    def _again(self, i: int, why: Lost) -> None:
        """A fresh worker in the place of one that died or hung."""
        self._workers[i].end()
        while not self._ending.is_set():
            log.error("a worker is started again: %s", why)
            self.restarts += 1
            self._workers[i] = _Worker(self._arguments)
            try:
                self._started(self._workers[i])
                return
            except (Lost, InputError) as error:  # the model's file is being replaced, or memory is short
                log.error("a worker does not start: %s", error)
                self._workers[i].end()
                self._ending.wait(5)

    def close(self) -> None:
        """End the workers; jobs that wait are cancelled, those at hand are finished within ``timeout``."""
        self._ending.set()
        while True:
            try:
                item = self._jobs.get_nowait()
            except queue.Empty:
                break
            if item:
                item[1].cancel()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(self._timeout)
        for worker in self._workers:
            worker.end()
