#!/usr/bin/env bash
# What cargo-deny (its path is the argument) says of the dependencies. Advisories come from the network: where their database cannot be
# fetched, everything else is still checked, and this says so.
set -euo pipefail
deny=$1
"$deny" --all-features --log-level error check licenses sources
# Versions that stand beside one another, in one line each: nothing here can be done about most of them.
found=$("$deny" --all-features check --hide-inclusion-graph bans 2>&1) || { echo "$found"; exit 1; }
echo "$found" | sed -n "s/^warning\[duplicate\]: found \([0-9]*\) duplicate entries for crate '\(.*\)'/\2 \1/p" | paste -s -d , - | sed "s/^/versions beside one another: /; s/,/, /g"
if "$deny" --all-features fetch db >/dev/null 2>&1; then
    "$deny" --all-features check --disable-fetch advisories
else
    echo "advisories: NOT CHECKED, because the database (https://github.com/rustsec/advisory-db) cannot be fetched" >&2
fi
