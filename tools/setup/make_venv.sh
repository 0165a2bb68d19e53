#!/usr/bin/env bash
# Makes .venv from Debian's own python3 with every requirement at its pinned version, each file checked
# by the SHA-256 in requirements.lock, and compiles the evaluator's kernels. Does nothing where both are there. `make_venv.sh packages` leaves the
# kernels out: the image is built in layers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

die() { printf '[venv] %s\n' "$*" >&2; exit 1; }
exec 9<tools/setup/make_venv.sh && flock 9   # two calls at once would trip over each other

if ! cmp -s requirements.txt .venv/installed.txt; then
    if [ ! -x .venv/bin/pip ]; then
        if ! /usr/bin/python3 -c 'import ensurepip' 2>/dev/null; then
            [ "$(id -u)" -eq 0 ] || die "Debian's python3 has no venv: run as root 'apt-get install python3-venv', then repeat."
            echo "[venv] installing Debian's python3-venv"
            apt-get -qq update
            DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv ca-certificates </dev/null >/dev/null
        fi
        rm -rf .venv
        /usr/bin/python3 -m venv .venv
    fi
    echo "[venv] installing $(grep -c '==' requirements.txt) pinned packages into .venv"
    .venv/bin/pip --quiet --disable-pip-version-check install --require-hashes --requirement requirements.lock \
        || die "pip could not install requirements.lock; its words are above."
    cp requirements.txt .venv/installed.partial && mv .venv/installed.partial .venv/installed.txt
fi

[ "${1:-}" != packages ] || exit 0
if [ ! -e .venv/kernels ] || [ -n "$(find eval -name '*.py' -newer .venv/kernels -print -quit)" ]; then
    echo "[venv] compiling the evaluator"
    .venv/bin/python -m eval.compile_kernels && .venv/bin/python -m eval.baselines.compile_kernels \
        || die "the evaluator could not be compiled; see above."
    touch .venv/kernels
fi
