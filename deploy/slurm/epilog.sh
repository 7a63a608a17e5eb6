#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Slurm's Epilog: tells each job that ends what it has cost on this node.
#
#   Epilog=/etc/slurm/eco-epilog.sh      in slurm.conf
#
# Where slurmdbd is, it writes the job's AdminComment, which sacct shows:
# `eco:1;energy_j=1234.567;cpu_s=60.200;carbon_g=0.131000;node=n1`. What others wrote there stands
# before it, with a `|` between; a node that writes again replaces its own word.
#
# A job that was submitted with --comment=eco gets a line at the end of its output, written as its
# user. No file is written as root.
#
# Never holds a node up for more than a few seconds and never fails: a node whose Epilog fails is
# drained.
set -u
# Slurm passes none.
export PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}"

job=${SLURM_JOB_ID:-}
case $job in
    '' | *[!0-9]*) exit 0 ;;
esac
command -v eco >/dev/null || exit 0

failed() {
    logger -t eco-epilog -- "job $job: $1" 2>/dev/null
}

query() {
    # The agent shows a job with its next tick, and a short one may have ended before.
    for _ in 1 2 3; do
        timeout 4 eco query job "slurm/$job" "$@" 2>/dev/null && return
        sleep 1
    done
    failed "the agent knows nothing of it"
    return 1
}

# What slurmdbd has of the job: `4711|COMPLETED|COMMENT`, or `4708_3|…` of a task of an array. The
# number alone would stand for a whole array, if this is the task whose number the array has.
recorded() {
    rows=$(timeout 4 sacct -X -n -P -j "$job" -o jobidraw,jobid,state,admincomment 2>/dev/null) ||
        return
    printf '%s\n' "$rows" | sed -n "s/^$job|//p" | tail -n 1
}

# Each word of a comment that this node has not written, and a `|` after it.
words_of_others() {
    set -f
    IFS='|'
    for word in $1; do
        case "$word;" in
            'eco:1;'*";node=$node;"*) ;;
            *) printf '%s|' "$word" ;;
        esac
    done
}

# `scontrol update` is refused once a job has ended, and the news of its end, which Slurm sends to its
# database when all Epilogs have ended, overwrites what was written there before. So it is written
# after that, by the database's own command.
write_comment() {
    cost=$(query --format comment) || return
    node=${cost##*;node=}
    node=${node%%;*}
    earlier=$cost
    polls=0
    while [ "$polls" -lt 30 ]; do
        polls=$((polls + 1))
        # Without slurmdbd there is nothing to do.
        record=$(recorded) || return
        id=${record%%|*}
        rest=${record#*|}
        case ${rest%%|*} in
            '' | PENDING | RUNNING | SUSPENDED)
                sleep 2
                continue
                ;;
        esac
        # By now with what it used at last.
        cost=$(timeout 4 eco query job "slurm/$job" --format comment 2>/dev/null) || cost=$earlier
        earlier=$cost
        comment=$(words_of_others "${rest#*|}")$cost
        timeout 4 sacctmgr -i modify job where "jobid=$id" set "AdminComment=$comment" \
            >/dev/null 2>&1 || break
        # Nodes of one job that write at once overwrite each other.
        [ "${SLURM_JOB_NUM_NODES:-1}" -gt 1 ] || return
        sleep 2
        case $(recorded) in
            *"$cost"*) return ;;
        esac
    done
    failed "its AdminComment could not be written"
}

# --comment has the word `eco`.
wants_line() {
    case " ${SLURM_JOB_COMMENT:-} " in
        *[!A-Za-z0-9_-]eco[!A-Za-z0-9_-]*) return 0 ;;
        *) return 1 ;;
    esac
}

# A member of what scontrol says of the job.
told() {
    printf '%s\n' "$record" | sed -n "s/^\(.* \)\{0,1\}$1=\([^ ]*\).*/\2/p" | head -n 1
}

# What scontrol leaves of sbatch's filename pattern: all with a width, and those of the node.
output_file() {
    host=$(uname -n)
    host=${host%%.*}
    FILE=$(printf '%s\n' "$record" | sed -n 's/^ *StdOut=//p' | head -n 1) \
    JOB=$job ARRAY=$(told ArrayJobId) TASK=$(told ArrayTaskId) HOST=$host awk '
        BEGIN {
            rest = ENVIRON["FILE"]
            task = ENVIRON["TASK"]
            value["j"] = value["J"] = ENVIRON["JOB"]
            value["A"] = ENVIRON["ARRAY"] == "" ? ENVIRON["JOB"] : ENVIRON["ARRAY"]
            # NO_VAL of slurm.h: what Slurm writes where there is no array.
            value["a"] = task == "" ? "4294967294" : task
            value["b"] = value["a"] % 10
            value["n"] = value["t"] = "0"
            value["N"] = ENVIRON["HOST"]
            value["s"] = "batch"
            value["%"] = "%"
            while (match(rest, /%[0-9]*[jJAabntNs%]/)) {
                letter = substr(rest, RSTART + RLENGTH - 1, 1)
                width = substr(rest, RSTART + 1, RLENGTH - 2)
                text = value[letter]
                # Slurm pads to ten at most, and numbers only.
                if (text ~ /^[0-9]+$/)
                    while (length(text) < width && length(text) < 10)
                        text = "0" text
                path = path substr(rest, 1, RSTART - 1) text
                rest = substr(rest, RSTART + RLENGTH)
            }
            print path rest
        }'
}

append_line() {
    uid=${SLURM_JOB_UID:-0}
    gid=${SLURM_JOB_GID:-$(id -g "$uid")}
    case $uid$gid in
        *[!0-9]*) return ;;
    esac
    # A job of root's gets none: nobody can lead a write of root's astray.
    [ "$uid" -ne 0 ] || return
    # Of an array's first task scontrol shows the whole array.
    record=$(timeout 4 scontrol show job "$job" 2>/dev/null | sed -n "/^JobId=$job /,/^\$/p")
    [ -n "$record" ] || failed "scontrol knows nothing of it"
    # One line a job, where its script ran.
    [ "$(told BatchHost)" = "${SLURMD_NODENAME:-}" ] || return
    line=$(query --format line --elapsed "$(told RunTime)") || return
    [ "${SLURM_JOB_NUM_NODES:-1}" -le 1 ] || line="$line alone, of $SLURM_JOB_NUM_NODES nodes"
    # Whatever the path is, it is opened with the user's own rights, and neither made nor emptied;
    # a link, a pipe or a device is nobody's output.
    LINE=$line setpriv --reuid="$uid" --regid="$gid" --init-groups --no-new-privs \
        --inh-caps=-all -- sh -c '
        [ -f "$1" ] && [ ! -L "$1" ] || exit 1
        last=$(tail -c 1 -- "$1"; echo x)
        [ "$last" = x ] || [ "$last" = "
x" ] || LINE="
$LINE"
        printf "%s\n" "$LINE" | dd of="$1" oflag=append,nofollow,nonblock \
            conv=notrunc,nocreat bs=4096 status=none' sh "$(output_file)" 2>/dev/null ||
        failed "its output takes no line"
}

case ${1:-} in
    '')
        # Whatever hangs, such as a user's file server, hangs alone: the node is free after this.
        timeout -k 1 10 sh "$0" in-time
        ;;
    in-time)
        if command -v sacctmgr >/dev/null; then
            # On its own, or Slurm would end it with the Epilog.
            setsid timeout -k 1 90 sh "$0" afterwards </dev/null >/dev/null 2>&1 &
        fi
        if wants_line; then
            append_line
        fi
        ;;
    afterwards)
        write_comment
        ;;
esac
exit 0
