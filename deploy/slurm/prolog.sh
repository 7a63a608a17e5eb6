#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# A TaskProlog of Slurm: tells a job's own programs where the agent is.
#
#   TaskProlog=/etc/slurm/eco-prolog.sh      in slurm.conf
#
# What it prints as `export NAME=value` becomes the environment of the task.
socket=${ECO_SOCKET:-/run/eco/agent.sock}
[ -S "$socket" ] && echo "export ECO_SOCKET=$socket"
exit 0
