#!/usr/bin/env bash
# Builds a Python wheel that holds the program, installs it into a bare environment, and runs a first study from an empty folder, without Rust.
# The wheel is left in target/wheel/dist. Usage: scripts/wheel.sh
set -euo pipefail
cd "$(dirname "$0")/.."
place=$PWD/target/wheel
rm -rf "$place/dist" "$place/bare" "$place/empty"
if ! "$place/tools/bin/maturin" --version 2>/dev/null | grep -q '1\.16\.0'; then
    rm -rf "$place/tools"
    python3 -m venv "$place/tools"
    "$place/tools/bin/pip" install --quiet maturin==1.16.0
fi
"$place/tools/bin/maturin" build --release --locked --out "$place/dist"
wheel=$(echo "$place"/dist/*.whl)
begin=$(date +%s.%N)
python3 -m venv "$place/bare"
"$place/bare/bin/pip" install --quiet --no-index "$wheel"
installed=$(date +%s.%N)
mkdir "$place/empty"
cd "$place/empty"
# Nothing of the environment but the bare one's programs and the system's.
env -i HOME="$place/empty" PATH="$place/bare/bin:/usr/bin:/bin" lora-lab run quick
done=$(date +%s.%N)
test -s results/quick/tables/main.txt
env -i HOME="$place/empty" PATH="$place/bare/bin:/usr/bin:/bin" lora-lab table quick > again.txt
grep -q 'lora ' again.txt
printf 'wheel: %s, %s MB\n' "$(basename "$wheel")" "$(($(stat -c %s "$wheel") / 1000000))"
awk -v b="$begin" -v i="$installed" -v d="$done" 'BEGIN { printf "installed in %.0f s, first table %.0f s later\n", i - b, d - i }'
