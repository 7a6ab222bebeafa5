#!/bin/sh
# finish.sh FOLDER: removes large files that no process imports, and compiles the rest, because a read-only file
# system cannot store bytecode later. Bytecode is not checked against sources: an image's files do not change, and a layer may lose
# their timestamps. STRIP is the prefix of the folder's path outside the image, which tracebacks should not show.
set -eu
find "$1" -depth -type d \( -path '*/kubernetes/aio' -o -path '*/pandas/tests' -o -path '*/torch/include' -o -path '*/torch/share' \
  -o -name __pycache__ \) -exec rm -rf {} +
# Some packages contain templates that are not valid Python: those are skipped.
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "${STRIP:-}" -p "${STRIP:+/}" "$1" >/dev/null || true
