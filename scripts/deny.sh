#!/usr/bin/env bash
# What cargo-deny (its path is the argument) says of the dependencies. Advisories come from the network: where their database cannot be
# fetched, everything else is still checked, and this says so.
set -euo pipefail
deny=$1
"$deny" --all-features check --hide-inclusion-graph licenses sources bans
if "$deny" --all-features fetch db >/dev/null 2>&1; then
    "$deny" --all-features check --disable-fetch advisories
else
    echo "advisories: NOT CHECKED, because the database (https://github.com/rustsec/advisory-db) cannot be fetched" >&2
fi
