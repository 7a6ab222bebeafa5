"""Events at a steady rate, sent as Label Studio does: on a new connection each."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from typing import Any


def at_rate(
    send: Callable[[int], bool], rate: float, seconds: float, threads: int = 32
) -> list[tuple[bool, float]]:
    """Call `send` at the rate from threads; return whether each worked, and its seconds."""
    answers: list[tuple[bool, float]] = []
    total, began, lock = int(rate * seconds), time.perf_counter(), threading.Lock()
    numbers = iter(range(total))

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            time.sleep(max(0.0, began + number / rate - time.perf_counter()))
            asked = time.perf_counter()
            answers.append((send(number), time.perf_counter() - asked))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return answers


def post(port: int, event: dict[str, Any]) -> int:
    """Send an event as Label Studio does, on a new connection; return the status, 0 for none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", "/webhook", json.dumps(event), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
    except OSError:
        return 0
    finally:
        connection.close()
    return answer.status
