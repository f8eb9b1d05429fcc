#!/usr/bin/env bash
# A study of 60 cells over a real Slurm on this machine, under faults, against the same study in one process: tests/slurm/check.sh PROGRAM
#
# The study is submitted by `--launcher slurm`, by two launchers at once, with a time limit that every task meets; meanwhile tasks are preempted,
# cancelled and replaced, node daemons, workers and a launcher are killed, workers are frozen past their leases and woken, and all is queued again.
#
# STEPS (150) is the length of a run, LEAST_FAULTS (30) how many faults there have to be before the study ends.
#
# Sets up a controller and two node daemons of its own in a scratch folder, without systemd and without a database, as root. Needs Debian's
# slurmctld, slurmd, slurm-client and munge (apt-get install --no-install-recommends slurmctld slurmd slurm-client munge).
set -euo pipefail
program=$(realpath "$1")
here=$(cd "$(dirname "$0")/../.." && pwd)
no_slurm() { echo "$*" >&2; exit 3; }
for command in slurmctld slurmd sbatch munged pkill; do
    command -v "$command" >/dev/null || no_slurm "$command is not here: no Slurm to check with"
done
scratch=$(mktemp -d)
chmod 755 "$scratch"
mkdir -p "$scratch"/{state,spool1,spool2,log}
host=$(hostname -s)
port=$((20000 + RANDOM % 20000))

cleanup() {
    scancel --user root 2>/dev/null || true
    pkill -9 -f "$program run grid.yaml --results" 2>/dev/null || true
    pkill -f "slurm(ctl)?d .*$scratch" 2>/dev/null || true
    sleep 1
    pkill -9 -f "slurm(ctl)?d .*$scratch" 2>/dev/null || true
    [ -n "${KEEP:-}" ] || rm -rf "$scratch"
}
trap cleanup EXIT

if ! munge -n >/dev/null 2>&1; then
    [ -s /etc/munge/munge.key ] || { dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none; }
    chown -R munge: /etc/munge && chmod 400 /etc/munge/munge.key
    mkdir -p /run/munge && chown munge: /run/munge
    runuser -u munge -- munged || no_slurm "munged does not start here"
    munge -n >/dev/null || no_slurm "munge does not work here"
fi

export SLURM_CONF=$scratch/slurm.conf
cat > "$SLURM_CONF" <<CONF
ClusterName=check
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A task that is queued again begins when its old credentials are void: after two minutes by default.
AuthInfo=cred_expire=5
StateSaveLocation=$scratch/state
SlurmdSpoolDir=$scratch/spool%n
SlurmctldPidFile=$scratch/slurmctld.pid
SlurmdPidFile=$scratch/slurmd-%n.pid
SlurmctldLogFile=$scratch/log/slurmctld.log
SlurmdLogFile=$scratch/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
MinJobAge=300
JobRequeue=1
SchedulerParameters=sched_interval=2,requeue_setup_env_fail
KillWait=10
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=2 RealMemory=8000
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=2 RealMemory=8000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
mkdir -p "$scratch"/spool{n1,n2}
slurmctld -f "$SLURM_CONF" || no_slurm "slurmctld does not start here"
node() { slurmd -N "$1" -f "$SLURM_CONF"; }
node n1 || no_slurm "slurmd does not start here"
node n2 || no_slurm "slurmd does not start here"
for _ in $(seq 120); do [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && break; sleep 0.5; done
[ "$(sinfo -h -o %T 2>/dev/null)" = idle ] || { cat "$scratch"/log/* >&2; no_slurm "Slurm's nodes do not come up here"; }
sinfo

cat > "$scratch/grid.yaml" <<'YAML'
# Sixty cells.
suite: glue_mini
model: mini_roberta
tasks: [cola, rte, wnli]
seeds: [0, 1, 2, 3, 4]
targets: [query, value]
ranks: [2, 4]
train: {steps: STEPS, batch: 8, max_length: 32, checkpoint_every: 10, learning_rate: 1e-3}
variants: [lora, dora]
launcher: {job_name: grid, comment: "sixty #cells, don't ask", partition: main, array_parallelism: 4, timeout_min: 1, signal_delay_s: 15, setup: ["export FROM_SETUP=1"]}
YAML
sed -i "s/STEPS/${STEPS:-150}/" "$scratch/grid.yaml"
cd "$scratch"
"$program" run grid.yaml --results one > one.txt 2> one.log

export LORA_LAB=$program
launch() { "$program" run grid.yaml --results many --launcher slurm --among 4 --patience 3 "$@"; }
launch > launched.txt 2> launched.log &
first=$!
launch > second.txt 2> second.log &
second=$!
for _ in $(seq 300); do [ -s many/grid/.partial/slurm-job ] && break; sleep 0.2; done
array=$(cat many/grid/.partial/slurm-job)
scontrol show job "$array" | grep -q "Comment=sixty #cells, don't ask" || { echo "an option with a blank was not taken as it is" >&2; exit 1; }
ended() { find many/grid/runs -name record.json 2>/dev/null | wc -l; }
# One of the workers, or nothing where there is none for a moment.
worker() { pgrep -f "$program run grid.yaml --results many .*--no-wait" | shuf -n 1 || true; }
faults=0
until [ "$(ended)" -ge 60 ]; do
    sleep 1
    task=$((RANDOM % 4 + 1))
    # A node that failed to launch a task is drained and the task held: an administrator sees to both.
    scontrol update NodeName=n1,n2 State=RESUME >/dev/null 2>&1 || true
    for held in 1 2 3 4; do scontrol release "${array}_$held" >/dev/null 2>&1 || true; done
    case $((faults % 8)) in
        0) scontrol requeue "${array}_$task" 2>/dev/null || true ;;                                             # preempted
        1) timeout 5 scancel --signal=USR1 --batch "${array}_$task" 2>/dev/null || true ;;                                # near its time limit
        2) pkill -9 -f "slurmd -N n2" || true; sleep 1; node n2 ;;                                              # a node's daemon dies
        3) kill -9 "$(worker)" 2>/dev/null || true ;;                                                           # a worker is killed
        4) frozen=$(worker)                                                                                     # frozen past its lease, and woken
           kill -STOP "$frozen" 2>/dev/null || true; (sleep 5; kill -CONT "$frozen" 2>/dev/null || true) & ;;
        5) timeout 5 scancel "${array}_$task" 2>/dev/null || true                                                         # a user takes one away
           sbatch --parsable --array=1-1 --mem=0 "$here/launchers/slurm.sub" grid.yaml --results many --patience 3 >/dev/null || true ;;
        6) if [ $faults = 6 ]; then kill -9 $second || true; fi                                                 # a launcher is killed
           for task in 1 2 3 4; do scontrol requeue "${array}_$task" 2>/dev/null || true; done ;;               # all is queued again
        7) pkill -9 -f "slurmctld -f $SLURM_CONF" || true; sleep 1; slurmctld -f "$SLURM_CONF" ;;               # the controller dies
    esac
    faults=$((faults + 1))
    if [ $faults -gt 300 ]; then
        sinfo -h -o %T | grep -qE 'idle|alloc|mix' || no_slurm "Slurm has no node left after its daemons were killed"
        echo "the study does not end: $(ended) of 60 records" >&2
        squeue
        exit 1
    fi
done
[ $faults -ge "${LEAST_FAULTS:-30}" ] || { echo "only $faults faults were made before the study ended" >&2; exit 1; }
# A launcher whose tasks were all cancelled says so; the same command submits what is left.
wait $first || { grep -q 'the same command submits what is left' launched.log && launch > launched.txt 2>> launched.log; } ||
    { cat launched.log >&2; exit 1; }
cmp one.txt launched.txt
# Launched once more, and from one process: nothing is left to do.
launch > again.txt 2>> again.log
"$program" run grid.yaml --results many --patience 3 > many.txt 2> many.log
cmp one.txt again.txt
cmp one.txt many.txt
[ "$(sed '/what is left/,$d' launched.log | cat - second.log | grep -c '^submitted job')" = 1 ] || { echo "submitted more than once" >&2; exit 1; }
saved=$({ cat many/grid/logs/slurm-*.log lora-lab-*.log 2>/dev/null || true; } | grep -c 'everything is saved' || true)
python3 - <<'PYTHON'
import glob, json, os
clock = {"checksum", "started", "finished", "resumed_at"}
seconds = {"train_seconds", "eval_seconds", "seconds_per_step", "tokens_per_second"}
def records(root):
    found = {}
    for path in glob.glob(f"{root}/grid/runs/*/record.json"):
        record = {key: value for key, value in json.load(open(path)).items() if key not in clock}
        record["measured"] = {key: value for key, value in record["measured"].items() if key not in seconds}
        found[os.path.basename(os.path.dirname(path))] = record
    return found
one, many = records("one"), records("many")
assert len(one) == 60 and one == many, [name for name in one if one[name] != many.get(name)]
PYTHON
said=$({ cat many/grid/logs/slurm-*.log lora-lab-*.log many.log again.log 2>/dev/null || true; } | grep -oE '^\[[0-9]+/60\] [^:]+' | sed 's/^\[[^]]*\] //' | sort | uniq -c | awk '$1 > 1')
[ -z "$said" ] || { echo "ended more than once: $said" >&2; exit 1; }
echo "$faults faults, workers saved and ended $saved times; 60 cells, each ended once; tables and records are those of one process"
