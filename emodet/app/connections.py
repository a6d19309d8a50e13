"""HTTP connections with a timeout for headers and a limit on idle connections."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_TIMEOUT_S = 10.0


class LimitedProtocol(H11Protocol):
    """Closes a connection if its headers take too long, and the oldest idle one if a new one exceeds the limit.

    uvicorn has no timeout for request headers, and counts idle connections in ``limit_concurrency``.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Handle a new connection."""
        super().connection_made(transport)
        self.made_s = self.loop.time()
        self._header_timer: asyncio.TimerHandle | None = None
        self._update_timer()
        others = [each for each in self.connections if isinstance(each, LimitedProtocol) and each is not self]
        alive = [each for each in others if not each.transport.is_closing()]
        idle = [each for each in alive if each.is_idle]
        if self.limit_concurrency is not None and len(alive) + 1 >= self.limit_concurrency and idle:
            min(idle, key=lambda each: each.made_s).transport.close()

    def data_received(self, data: bytes) -> None:
        """Handle a part of a request."""
        super().data_received(data)
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of a connection."""
        if self._header_timer is not None:
            self._header_timer.cancel()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether the connection waits for the headers of its next request."""
        return self.cycle is None or self.cycle.response_complete

    def _update_timer(self) -> None:
        if not self.is_idle and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
        elif self.is_idle and self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_TIMEOUT_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.is_idle:
            self.transport.close()
