#!/bin/sh
# finish.sh FOLDER…: removes what no process imports, and compiles the rest: a read-only file system takes no bytecode later.
set -eu
for folder in "$@"; do
  find "$folder" -depth -type d \( -path '*/kubernetes/aio' -o -path '*/Crypto/SelfTest' -o -path '*/torch/include' \
    -o -path '*/torch/share' -o -path '*/pandas/tests' -o -path '*/numpy/*/tests' -o -path '*/sklearn/*/tests' \
    -o -path '*/scipy/*/tests' -o -path '*/networkx/*/tests' -o -path '*/sympy/*/tests' -o -name '__pycache__' \) \
    -exec rm -rf {} +
  # Checked against nothing: an image's files do not change, and layers may lose the time of a file.
  # -s and -p: the path that a traceback shows is the one in the image. Some packages hold templates that are no Python.
  python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "${STRIP:-}" -p "${STRIP:+/}" "$folder" >/dev/null || true
done
