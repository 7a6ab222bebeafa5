#!/bin/sh
# finish.sh FOLDER: removes the large things that no process imports, and compiles the rest, because a read-only file
# system takes no bytecode later. Bytecode is checked against nothing: an image's files do not change, and a layer may lose
# their times. STRIP is what stands before the path that the folder has in the image, and tracebacks do not show it.
set -eu
find "$1" -depth -type d \( -path '*/kubernetes/aio' -o -path '*/pandas/tests' -o -path '*/torch/include' -o -path '*/torch/share' \
  -o -name __pycache__ \) -exec rm -rf {} +
# Some packages hold templates that are no Python: those are left as they are.
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "${STRIP:-}" -p "${STRIP:+/}" "$1" >/dev/null || true
