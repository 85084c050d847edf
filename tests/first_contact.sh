#!/usr/bin/env bash
# What a new user meets: `make compare` and `make test` in a fresh clone of this commit, on a machine that is not ours.
#
#   tests/first_contact.sh [CONDITION...]      without conditions: all of them at once
#
# There is never a vLLM. Conditions:
#   no-ray        Ray is not installed
#   vllm-folder   the working directory holds a folder named vllm, as for everyone who cloned vLLM
#   no-home       nothing can be written to the home folder, and no other folder for compiled code is named
#   background    a job in the background of a shell runs the commands, and so ignores Ctrl-C
set -euo pipefail
known="no-ray vllm-folder no-home background"
conditions=" ${*:-$known} "
for condition in $conditions; do
  case " $known " in
    *" $condition "*) ;;
    *) echo "first_contact.sh: no condition $condition; expected some of: $known" >&2; exit 2 ;;
  esac
done
has() { case "$conditions" in *" $1 "*) ;; *) false ;; esac; }

clone=$(mktemp -d)
trap 'rm -rf "$clone"' EXIT
git clone --quiet "$(dirname "$0")/.." "$clone"
cd "$clone"
unset LLMSCHED_GYM_VLLM_PYTHON LLMSCHED_GYM_CACHE XDG_CACHE_HOME PYTHONPATH
make .venv/dev
if has no-ray; then .venv/bin/pip uninstall --quiet --yes ray; fi
if has vllm-folder; then mkdir -p vllm/vllm; fi
if has no-home; then export HOME=/proc; fi # root may write wherever permissions are all that forbids it
if has background; then
  { make compare && make test; } & # a shell without job control lets this ignore Ctrl-C
  wait $!
else
  make compare
  make test
fi
echo "passed:$conditions"
