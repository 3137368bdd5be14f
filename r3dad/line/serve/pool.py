"""Workers and the queue before them. A worker that dies or hangs costs its scan an error and is started again."""

from __future__ import annotations

import json
import logging
import multiprocessing
import queue
import threading
import time
from collections.abc import Iterator
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


_Item = tuple[dict[str, Any], "Future[dict[str, Any]]"]


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
        raise Lost("the inspection took too long and was stopped")

    def ask(self, jobs: list[dict[str, Any]], seconds: float) -> Iterator[tuple[int, dict[str, Any]]]:
        """(place in the list, answer) of each job as they come, within ``seconds`` altogether. Raises Lost."""
        end = time.monotonic() + seconds
        try:
            self._pipe.send_bytes(json.dumps(jobs).encode())
        except OSError:
            raise Lost("the worker had ended; send the scan again") from None
        for _ in jobs:
            answer = self.receive(max(end - time.monotonic(), 0.0))
            yield answer.pop("job"), answer

    def end(self) -> None:
        self._pipe.close()
        self.process.join(0.5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Pool:
    """``workers`` processes behind one queue of at most ``waiting`` jobs.

    models: name -> file. batch: jobs that a worker takes at once, where so many wait. timeout: seconds for one job. ``about`` says what
    each model is.

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
        batch: int = 1,
        device: str | None = None,
    ) -> None:
        self._arguments = ({name: str(file) for name, file in models.items()}, threads, most_points, device)
        self._timeout, self._batch = timeout, batch
        self._jobs: queue.Queue[_Item | None] = queue.Queue(waiting)
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
            items = [item, *self._more()]
            items = [item for item in items if item[1].set_running_or_notify_cancel()]  # else nobody waits any more
            if not items:
                continue
            started = time.monotonic()
            for item in self._inspected(i, items):  # any of them may be what ended the worker
                self._inspected(i, [item])
            each = (time.monotonic() - started) / len(items)
            self.seconds_per_job += 0.1 * (each - self.seconds_per_job)

    def _more(self) -> Iterator[_Item]:
        """Jobs that wait, for a worker that has one."""
        for _ in range(self._batch - 1):
            try:
                item = self._jobs.get_nowait()
            except queue.Empty:
                return
            if item is None:  # the end, which is for `_serve`
                self._jobs.put(None)
                return
            yield item

    def _inspected(self, i: int, items: list[_Item]) -> list[_Item]:
        """Answer jobs that run. A worker that is lost is replaced; over one job that costs it an error, of several those without an answer
        are given back."""
        left = dict(enumerate(items))
        try:
            for number, answer in self._workers[i].ask([job for job, _ in items], self._timeout * len(items)):
                job, future = left.pop(number)
                if "fault" in answer:
                    log.error("model %s: %s", job["model"], answer["fault"])
                    future.set_exception(Failed("this scan could not be inspected; the server's log says more"))
                elif "error" in answer:
                    future.set_exception(Refused(answer["error"]))
                else:
                    future.set_result(answer["inspection"])
        except Lost as error:
            if len(items) == 1:
                left.popitem()[1][1].set_exception(error)
            self._again(i, error)
        return list(left.values())

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
            thread.join(self._timeout * self._batch)
        for worker in self._workers:
            worker.end()
