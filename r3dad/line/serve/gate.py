"""Before anything of a request is looked at: who sends it, how often, how much, how slowly."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
import time
from collections import OrderedDict
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from r3dad.line.serve.metrics import Metrics
from r3dad.line.serve.settings import ServeConfig, is_loopback

OPEN = ("/health",)
"""Paths that need no token and do not count against the rate."""
ADDRESSES = 10_000
"""Clients whose rate is remembered."""
ENVELOPE = 8 << 10
"""Bytes that a form may add to the scan in it."""


def refusal(status: int, line: str, **headers: str) -> JSONResponse:
    """Every error of the server: ``{"error": line}``."""
    return JSONResponse({"error": line}, status, {k.replace("_", "-"): v for k, v in headers.items()})


class Rate:
    """Token buckets: ``rate`` requests per second and address, bursts of twice as many (at least 2)."""

    def __init__(self, rate: float) -> None:
        self._rate, self._burst = rate, max(2.0, 2 * rate)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until this address may send; 0 counts as sent."""
        now = time.monotonic()
        left, then = self._left.pop(address, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        seconds = 0.0 if left >= 1 else (1 - left) / self._rate
        self._left[address] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > ADDRESSES:
            self._left.popitem(last=False)
        return seconds


class Gate:
    """ASGI middleware: 403 for foreign host names, 401, 429, 413, 408; counts what it lets through and what it does not."""

    def __init__(self, app: ASGIApp, config: ServeConfig, metrics: Metrics) -> None:
        self._app, self._config, self._metrics, self._rate = app, config, metrics, Rate(config.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refused = self._refused(scope)
            await (refused or self._app)(scope, self._limited(receive), noted)
        finally:
            endpoint = getattr(scope.get("endpoint"), "__name__", "none")
            self._metrics.answered(endpoint, status, time.monotonic() - started)

    def _refused(self, scope: Scope) -> JSONResponse | None:
        config, headers = self._config, Headers(scope=scope)
        if scope["path"] in OPEN:
            return None
        if config.token is None:
            if not _names_this_machine(
                headers.get("host", "")
            ):  # a page of another site, sent to us by its name server
                return refusal(403, "the server answers to localhost only; start it with a token for other names")
        elif not _has_token(headers.get("authorization", ""), config.token):
            return refusal(
                401, "expected a header 'Authorization: Bearer TOKEN'", WWW_Authenticate='Basic realm="r3dad"'
            )
        seconds = self._rate.wait(scope["client"][0] if scope.get("client") else "")
        if seconds > 0:
            return refusal(429, f"more than {config.rate:g} requests a second; wait", Retry_After=str(int(seconds) + 1))
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return refusal(400, "Content-Length: expected a number of bytes")
        if int(length[:20]) > config.most_bytes + ENVELOPE:
            return _too_large(config, Connection="close")
        return None

    def _limited(self, receive: Receive) -> Receive:
        """``receive`` that ends a body which is too long or takes too long."""
        config, held, end = self._config, 0, time.monotonic() + self._config.timeout
        whole = False

        async def limited() -> Message:
            nonlocal held, whole
            if whole:  # nothing but the end of the connection is left to hear of
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(end - time.monotonic(), 0.01))
            except TimeoutError:
                raise HTTPException(408, f"the scan did not arrive within {config.timeout:.0f} s") from None
            held += len(message.get("body", b""))
            if held > config.most_bytes + ENVELOPE:
                raise HTTPException(413, too_large(config), {"Connection": "close"})
            whole = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        return limited


def too_large(config: ServeConfig) -> str:
    """The line of a 413."""
    return f"expected at most {config.most_bytes / (1 << 20):g} MiB; thin the scan and export it again"


def _too_large(config: ServeConfig, **headers: Any) -> JSONResponse:
    return refusal(413, too_large(config), **headers)


def _names_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


def _has_token(given: str, token: str) -> bool:
    """Whether the header is ``Bearer TOKEN``, or ``Basic`` with the token for a password, as browsers send it."""
    kind, _, value = given.partition(" ")
    if kind.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode("latin1").partition(":")[2]
        except (binascii.Error, ValueError):
            value = ""
    elif kind.lower() != "bearer":
        value = ""
    return secrets.compare_digest(value.strip().encode(), token.encode())
