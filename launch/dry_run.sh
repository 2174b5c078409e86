# Sourced by the launchers: usage from the script's own head, faults in one line, commands printed instead of run.
# shellcheck shell=bash

dry_run=false  # set by --dry-run

# The comment at the head of the script, without its marks.
show_usage() {
  sed -n '2,${/^#/!q;s/^# \{0,1\}//p;}' "$0"
}

# One line on what is wrong, and status 2.
fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 2
}

# need_value OPTION COUNT: an option that is the last argument lacks its value; COUNT is the caller's $#.
need_value() {
  [ "$2" -ge 2 ] || fail "$1 needs a value"
}

# whole_number OPTION VALUE [LEAST]
whole_number() {
  [[ $2 =~ ^[0-9]{1,9}$ ]] && [ "$((10#$2))" -ge "${3:-0}" ] || fail "$1 must be a whole number of at least ${3:-0}, got '$2'"
}

# The words as one line that a shell reads back as the same words.
quoted() {
  local word line=
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_./:=,@%+-]*) word=${word@Q} ;;
    esac
    line+="${line:+ }$word"
  done
  printf '%s' "$line"
}

# Runs a command, or prints it under --dry-run.
perform() {
  if $dry_run; then
    quoted "$@"
    echo
  else
    "$@"
  fi
}

# The interpreter of the checkout's virtual environment, where there is one.
default_python() {
  if [ -x "$1/.venv/bin/python" ]; then echo "$1/.venv/bin/python"; else echo python; fi
}
