"""A trainer for the contract tests: `--run file:///…/runs/<run>`; the request's cause names its behaviour."""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

assert sys.argv[1] == "--run"
folder = Path(unquote(urlsplit(sys.argv[2]).path))
behaviour = json.loads((folder / "request.json").read_text())["cause"]
tries = folder.parent.parent / f"tries-{folder.name}"
tried = len(tries.read_text()) if tries.exists() else 0
tries.write_text("x" * (tried + 1))


def checkpoint(_number: int, _frame: object) -> None:
    print("kept", flush=True)
    sys.exit(75)


signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "stubborn" else checkpoint)
print("started", flush=True)
words = behaviour.split()
if words[0] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if words[0] in {"wait", "stubborn"} and not (words[-1] == "0" and tried):
    threading.Event().wait(60)
sys.exit(int(words[-1] if tried and "then" in words else words[1]) if words[0] == "exit" else 0)
