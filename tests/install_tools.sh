#!/bin/sh
# Programs the tests need beside Python: a real browser and Prometheus' own checker, from Debian.
set -eu
missing=""
command -v chromium >/dev/null || missing="$missing chromium"
command -v promtool >/dev/null || missing="$missing prometheus"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
else
  echo "the tests need:$missing; run: sudo apt-get install$missing" >&2
  exit 1
fi
