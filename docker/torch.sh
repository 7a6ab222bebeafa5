#!/bin/sh
# torch.sh FOLDER: installs torch and transformers there. TORCH selects the build: `cpu`, `cuda`, or `any`, whichever pip
# prefers from its indexes; TORCH_INDEX adds one (for example that of the CPU builds).
set -eu
version=$(sed -n 's/^torch==//p' docker/torch.txt)
case $TORCH in
  any) wanted="torch==$version" ;;
  cpu) wanted="torch==$version+cpu" ;;
  cuda) wanted="torch==$version,!=$version+cpu" ;;
  *) echo "TORCH is '$TORCH', and must be cpu, cuda or any." >&2; exit 64 ;;
esac
pip="python3 -m pip --python /opt/fitloop/bin/python"
$pip install --target "$1" ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c docker/torch.txt "$wanted" transformers || {
  echo "torch: no '$wanted' was found. Name an index that has it: --build-arg TORCH_INDEX=<URL of the index>." >&2; exit 69; }
rm -rf "$1"/setuptools* "$1"/pkg_resources "$1"/_distutils_hack "$1"/distutils-precedence.pth
docker/finish.sh "$1"
