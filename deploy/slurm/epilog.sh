#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Writes what a job has cost on this node into its AdminComment, as root, while the job still runs:
#
#   SLURM_JOB_ID=4711 deploy/slurm/epilog.sh
#
# As Slurm's own Epilog it does no harm and writes nothing: slurmctld (22.05) takes no
# `scontrol update` of a job that has finished.
#
# AdminComment becomes `eco:1;energy_j=1234.567;cpu_s=60.200;carbon_g=0.131000;node=n1`; what other
# nodes of the job wrote stands before it, after a `|`. Never holds a job up for more than a few
# seconds and never fails one: a node whose Epilog fails is drained.
set -u

job=${SLURM_JOB_ID:-}
case $job in
    '' | *[!0-9]*) exit 0 ;;
esac
command -v eco >/dev/null && command -v scontrol >/dev/null || exit 0

cost=$(timeout 5 eco query job "slurm/$job" --format comment 2>/dev/null) || exit 0
before=$(timeout 5 scontrol --oneliner show job "$job" 2>/dev/null |
    sed -n 's/.* AdminComment=\([^ ]*\).*/\1/p')
timeout 5 scontrol update "JobId=$job" "AdminComment=${before:+$before|}$cost" >/dev/null 2>&1
exit 0
