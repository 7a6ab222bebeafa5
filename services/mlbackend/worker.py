"""The process of one model class: imports it, builds it, and answers calls until its parent is gone. The only place that runs it.

    python -P worker.py DESCRIPTOR [FOLDER ...]

DESCRIPTOR is a socket to the parent, FOLDERs are deleted if the parent dies. Standard input is a pipe whose other end only the parent holds, so the process ends with it.
What the class prints goes to standard error. This file starts before `services` can be imported.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import signal
import socket
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_ROOT = str(Path(__file__).resolve().parents[2])
_IS_ADDED = _ROOT not in sys.path
if _IS_ADDED:
    sys.path.append(_ROOT)  # a checkout that is not installed

from services.core.redaction import mask  # noqa: E402  # as above
from services.mlbackend import answers, frames  # noqa: E402
from services.mlbackend.label_check import region_check  # noqa: E402

if _IS_ADDED:
    sys.path.remove(_ROOT)  # the class finds its own modules and libraries only
_LIBRARY = "label_studio_ml."
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS", re.IGNORECASE)


class Failed(Exception):
    """The class raised; `report` says where and what."""

    def __init__(self, stage: str, error: BaseException) -> None:
        super().__init__(stage)
        self.report = {"stage": stage, "line": last_line(error), "place": _place(error)}


def last_line(error: BaseException) -> str:
    """Return the last line of the error's traceback; of a message of several lines, all of them as one."""
    lines = _without_secrets("".join(traceback.format_exception_only(error))).strip().splitlines()
    return lines[-1] if isinstance(error, SyntaxError) else " ".join(map(str.strip, lines))


def _place(error: BaseException) -> str:
    """Return the file and the line that raised, unless it is this package."""
    places = traceback.extract_tb(error.__traceback__)
    if not places or Path(places[-1].filename).parent == Path(__file__).parent:
        return ""
    return f"{Path(places[-1].filename).name}, line {places[-1].lineno}"


def _without_secrets(text: str) -> str:
    """Mask the values of variables that hold keys: a class may put them into its errors."""
    return mask(text, [value for name, value in os.environ.items() if _SECRET.search(name)])


def _at(stage: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except BaseException as error:  # SystemExit of a class must not end the process either
        sys.stderr.write(_without_secrets(traceback.format_exc()))
        raise Failed(stage, error) from error


class Worker:
    """The class, and the object that was built from it for the label config of the last call."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        self._project_id = str(start["project_id"])
        self._class = _at("import", lambda: load_class(start["model"]))
        self._label_config = ""
        self._asks_singly = False
        self._use(start["label_config"])

    @property
    def has_fit(self) -> bool:
        """Whether the class has a `fit` of its own."""
        fit = getattr(self._class, "fit", None)
        return callable(fit) and not str(getattr(fit, "__module__", "")).startswith(_LIBRARY)

    def predict(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """Return the predictions of each task, and what was dropped."""
        self._use(call.get("label_config") or self._label_config)
        tasks, dropped = call["tasks"], Counter[str]()
        found = _at("predict", lambda: self._matched(tasks, call, dropped))
        return {
            "predictions": [answers.fitting(one, self._check, dropped) for one in found],
            "dropped": {reason: count for reason, count in dropped.items() if count},
        }

    def fit(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `fit` returned, if it is a JSON object."""
        found = _at("fit", lambda: self._object.fit(call["event"], call["data"], **call["parameters"]))
        with contextlib.suppress(TypeError):
            result = answers.plain(found)
            return {"result": result if isinstance(result, dict) else None}
        return {"result": None}

    def _matched(self, tasks: list[Any], call: Mapping[str, Any], dropped: Counter[str]) -> list[Any]:
        """Ask for all tasks at once; one by one if some fail, or if their number differs, since then nothing says whose they are."""
        if len(tasks) == 1 or not self._asks_singly:
            try:
                return self._answer(tasks, call)
            except Exception as error:
                if len(tasks) == 1:
                    raise
                self._asks_singly = isinstance(error, answers.WrongLength)
        found, failures = list[Any](), list[Exception]()
        for task in tasks:
            try:
                found += self._answer([task], call)
            except Exception as error:  # noqa: BLE001  # of the class; raised below if no task can be answered
                found.append(None)
                failures.append(error)
        if failures and len(failures) == len(tasks):
            raise failures[-1]
        dropped["raised"] += len(failures)
        return found

    def _answer(self, tasks: list[Any], call: Mapping[str, Any]) -> list[Any]:
        given = self._object.predict(tasks, context=call["context"], **call["params"])
        return answers.match_tasks(answers.as_list(given), tasks)

    def _use(self, label_config: str) -> None:
        """Build the object anew if the label config is another one, as the library does for each request."""
        if label_config == self._label_config:
            return
        self._object = _at(
            "setup", lambda: self._class(project_id=self._project_id, label_config=label_config)
        )
        self._check, self._label_config = region_check(label_config), label_config


def load_class(model: str) -> Any:
    """Import the class. Raises whatever importing raises, AttributeError, TypeError."""
    module, _, name = model.partition(":")
    found = getattr(importlib.import_module(module), name)
    if not isinstance(found, type) or not callable(getattr(found, "predict", None)):
        raise TypeError(f"{name} is no class with a method predict")
    return found


def _answer(worker: Worker, call: Mapping[str, Any]) -> dict[str, Any]:
    handlers: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
        "predict": worker.predict,
        "fit": worker.fit,
    }
    return handlers[call["call"]](call)


def _send(connection: socket.socket, call: Callable[[], dict[str, Any]]) -> bool:
    """Send what the call returns, or the report of its failure; return whether it succeeded."""
    try:
        connection.sendall(frames.encode(call()))
        return True
    except Failed as failed:
        connection.sendall(frames.encode({"error": failed.report}))
    except ValueError as error:  # larger than a message may be
        connection.sendall(frames.encode({"error": {"stage": "predict", "line": str(error), "place": ""}}))
    return False


def serve(connection: socket.socket) -> None:
    """Build the class, say so, and answer calls until the connection ends."""
    buffer = frames.Frames()
    if (start := frames.receive(connection, buffer)) is None:
        return
    built: list[Worker] = []

    def build() -> dict[str, Any]:
        built.append(Worker(start))
        return {"has_fit": built[0].has_fit}

    if not _send(connection, build):
        return
    while (call := frames.receive(connection, buffer)) is not None:
        _send(connection, lambda call=call: _answer(built[0], call))  # type: ignore[misc]  # bound now


def _watch_parent(pipe: int, folders: list[str]) -> None:
    """At the parent's end delete its temporary folders, which nobody else knows, and end all processes of this group."""
    while os.read(pipe, 1024):
        pass
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Serve the parent at the other end of the socket."""
    pipe, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what the class prints must not mix with the output of the parent
    threading.Thread(target=_watch_parent, args=(pipe, sys.argv[2:]), daemon=True).start()
    with contextlib.suppress(OSError):  # the kernel ends this process before its parent if memory runs out
        Path("/proc/self/oom_score_adj").write_text("1000")
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        serve(connection)


if __name__ == "__main__":
    main()
