#!/usr/bin/env bash
# Reads a report in headless Chromium, where that is here or can be installed: scripts/browser/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
has_chromium() { command -v chromium >/dev/null && command -v chromedriver >/dev/null; }
skip() { echo "browser: not checked: $*"; exit 0; }

if ! has_chromium; then
    [ "$(id -u)" = 0 ] || skip "there is no Chromium here, and only root installs it"
    command -v apt-get >/dev/null || skip "there is no Chromium here and no apt-get to install it"
    packages="chromium chromium-driver"
    echo "browser: installing Debian's $packages"
    { timeout 120 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 900 apt-get install -qq -y --no-install-recommends $packages; } \
        >/dev/null 2>&1 ||
        skip "apt-get could not install $packages"
    has_chromium || skip "the packages did not bring chromium and chromedriver"
fi
if [ ! -x target/browser/python/bin/python ]; then
    python3 -m venv target/browser/python
    target/browser/python/bin/python -m pip install --quiet --requirement scripts/browser/requirements.txt
fi
cargo build --release --quiet -p cli
target/browser/python/bin/python scripts/browser/report.py --binary "${CARGO_TARGET_DIR:-target}/release/lora-lab" \
    --chromium "$(command -v chromium)" --driver "$(command -v chromedriver)" "$@"
