"""Eight clients in a separate process: one new connection per request, as Label Studio does, at a fixed rate.

`python -m bench.client` reads one job as JSON from stdin and writes each request's milliseconds as JSON. Only the standard
library is imported, and each client asks ten times a second, so that what is measured is the server and not the client.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from dataclasses import dataclass, field


@dataclass
class Job:
    """Clients, request, rate and duration."""

    host: str
    port: int
    method: str
    path: str
    body: str
    clients: int
    rate: float
    """Requests per second of each client."""
    seconds: float
    milliseconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def ask(self) -> None:
        """Time one request, from connecting to the last byte of the response."""
        begun = time.perf_counter()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request(
                self.method, self.path, self.body or None, {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                self.errors.append(f"status {answer.status}")
        except OSError as error:
            self.errors.append(type(error).__name__)
        finally:
            connection.close()
        self.milliseconds.append((time.perf_counter() - begun) * 1000)

    def client(self, number: int, begun: float) -> None:
        """Send requests at even intervals, the clients spread over one interval. A due request is never skipped."""
        due = begun + number / self.clients / self.rate
        while due < begun + self.seconds:
            time.sleep(max(0.0, due - time.perf_counter()))
            self.ask()
            due += 1 / self.rate

    def run(self) -> None:
        begun = time.perf_counter() + 0.1
        threads = [
            threading.Thread(target=self.client, args=(number, begun)) for number in range(self.clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    job = Job(**json.load(sys.stdin))
    job.run()
    json.dump({"milliseconds": job.milliseconds, "errors": job.errors}, sys.stdout)
