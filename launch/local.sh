#!/usr/bin/env bash
# Train with N processes on this host, which share each batch as the hosts of a cluster would.
#
#   launch/local.sh [options] N --config configs/X.py --workdir DIR [--config.field=value ...]
#
# Process 0 writes to this terminal as it is; the lines of the others begin with their number. SIGTERM, SIGINT and
# SIGHUP are passed on as SIGTERM, at which the training saves. When one process fails, the others are ended by SIGTERM;
# what has not ended GRACE seconds later is killed. The status is that of the process that failed first, 0 if none did.
#
#   --gpus-each G   process i sees GPUs i*G to i*G+G-1 only (default: all processes see all devices)
#   --port PORT     of process 0, where the others meet (default: a free one)
#   --grace SECONDS from the order to stop until the rest is killed (120)
#   --python PATH   the interpreter (.venv/bin/python of the checkout if there is one, else python)
#   --dry-run       print the commands and run none
#   --help
#
# Each process reads DEFT_JAX_COORDINATOR (host:port), DEFT_JAX_NUM_PROCESSES and DEFT_JAX_PROCESS_ID.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/dry_run.sh
source "$here/dry_run.sh"

port='' grace=120 gpus_each=0 python=''
while [ $# -gt 0 ]; do
  case $1 in
    --help) show_usage; exit 0 ;;
    --dry-run) dry_run=true; shift ;;
    --gpus-each) need_value "$1" $#; whole_number "$1" "$2" 1; gpus_each=$2; shift 2 ;;
    --port) need_value "$1" $#; whole_number "$1" "$2" 1; port=$2; shift 2 ;;
    --grace) need_value "$1" $#; whole_number "$1" "$2"; grace=$2; shift 2 ;;
    --python) need_value "$1" $#; python=$2; shift 2 ;;
    -*) fail "unknown option '$1' before N; see --help" ;;
    *) break ;;
  esac
done
[ $# -ge 1 ] || fail "how many processes? local.sh N --config FILE --workdir DIR ...; see --help"
whole_number N "$1" 1
processes=$1
shift
[ $# -ge 1 ] || fail "nothing to train: --config FILE --workdir DIR must follow N"
[ -n "$python" ] || python=$(default_python "$(dirname "$here")")

if [ -z "$port" ]; then
  # Nobody listens where a connection is refused. Below the ports that the kernel gives to outgoing connections.
  for _ in {1..50}; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
fi

# command_of I: the words of process I, in `words`.
command_of() {
  words=(env "DEFT_JAX_COORDINATOR=127.0.0.1:$port" "DEFT_JAX_NUM_PROCESSES=$processes" "DEFT_JAX_PROCESS_ID=$1")
  if [ "$gpus_each" -gt 0 ]; then
    words+=("CUDA_VISIBLE_DEVICES=$(seq -s , $(($1 * gpus_each)) $((($1 + 1) * gpus_each - 1)))")
  fi
  words+=("$python" -m deft_jax.train "${arguments[@]}")
}

arguments=("$@")
if $dry_run; then
  for ((i = 0; i < processes; i++)); do
    command_of "$i"
    echo "$(quoted "${words[@]}") &"
  done
  echo wait
  exit 0
fi

ordered='' # the second at which the order to stop went out
stop() {
  [ -n "$ordered" ] || ordered=$SECONDS
  for pid in "${alive[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
}

alive=() status=0
trap stop TERM INT HUP
# A process group each: Ctrl-C reaches them through `stop` alone, and what a process leaves behind can be killed with it.
set -m
for ((i = 0; i < processes; i++)); do
  command_of "$i"
  if [ "$i" -eq 0 ]; then
    "${words[@]}" </dev/null &
  else
    "${words[@]}" </dev/null > >(exec sed -u "s/^/[$i] /") 2>&1 &
  fi
  alive+=("$!")
  # A signal that came before this process was there has not reached it.
  [ -z "$ordered" ] || stop
done
set +m

while [ "${#alive[@]}" -gt 0 ]; do
  left=()
  for pid in "${alive[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then
      left+=("$pid")
      continue
    fi
    ended=0
    wait "$pid" || ended=$?
    [ "$status" -ne 0 ] || status=$ended
  done
  alive=("${left[@]}")
  [ "${#alive[@]}" -gt 0 ] || break
  if [ "$status" -ne 0 ] && [ -z "$ordered" ]; then
    echo "local.sh: a process ended with status $status; stopping the other ${#alive[@]}" >&2
    stop
  fi
  if [ -n "$ordered" ] && [ $((SECONDS - ordered)) -gt "$grace" ]; then
    echo "local.sh: ${#alive[@]} still there after $grace s; killing" >&2
    for pid in "${alive[@]}"; do kill -KILL -- "-$pid" 2>/dev/null || true; done
  fi
  sleep 0.2
done
exit "$status"
