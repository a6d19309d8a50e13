"""As much of Weights & Biases' service as it takes to start a run online, and then to lose it."""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


class WandbService:
    """A server on this machine that answers like the service until it has started a run, and then no more.

    Attributes:
        asked: The operations that it was asked for.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._started = Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        Thread(target=self._server.serve_forever, daemon=True).start()
        Thread(target=self._go_away, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._started.set()

    def _go_away(self) -> None:
        self._started.wait()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
        operation = found.group(1) if found else ""
        self.asked.append(operation)
        if operation == "Viewer":
            teams: dict[str, Any] = {"edges": []}
            viewer = {"id": "u", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": teams}
            return {"viewer": viewer}
        if operation == "UpsertBucket":
            values = asked["variables"]
            project = {"id": "p", "name": values["project"], "entity": {"id": "e", "name": "me"}}
            bucket = {
                **{"id": "b", "name": values["name"], "displayName": "run", "description": None, "config": "{}"},
                **{"sweepName": None, "historyLineCount": 0, "project": project},
            }
            return {"upsertBucket": {"inserted": True, "bucket": bucket}}
        if operation == "OrganizationCoreWeaveOrganizationID":
            self._started.set()
        return {}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = {"data": service._answer(json.loads(content))} if self.path == "/graphql" else {}
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing on the console."""

        return Handler
