#!/usr/bin/env bash
# Builds the program and checks it on a real Slurm, where that is here or can be installed: tests/slurm/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
has_slurm() { for command in slurmctld slurmd sbatch munged; do command -v "$command" >/dev/null || return 1; done; }
skip() { echo "slurm: not checked: $*"; exit 0; }

[ "$(id -u)" = 0 ] || skip "its daemons need root"
if ! has_slurm; then
    command -v apt-get >/dev/null || skip "there is no Slurm here and no apt-get to install it"
    echo "slurm: installing Debian's slurmctld, slurmd, slurm-client and munge"
    packages="slurmctld slurmd slurm-client munge procps"
    { timeout 120 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -qq -y --no-install-recommends $packages; } \
        >/dev/null 2>&1 ||
        skip "apt-get could not install $packages"
    has_slurm || skip "the packages did not bring slurmctld, slurmd, sbatch and munged"
fi
cargo build --release --quiet -p cli
bash tests/slurm/check.sh "${CARGO_TARGET_DIR:-target}/release/lora-lab" && exit 0
status=$?
[ $status = 3 ] && skip "its daemons do not start on this machine"
exit $status
