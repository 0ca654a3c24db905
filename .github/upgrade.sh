#!/usr/bin/env bash
# Resolve all locks anew, and open a pull request that says what moved; nothing moved, no pull request.
# Needs `make setup`, and gh with GH_TOKEN. An open pull request of an earlier week is brought up to date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly BRANCH=upgrade-locks TITLE="Upgrade the locks"
launch() { .venv/bin/launch "$@"; }

launch image lock --upgrade '*'
launch image render
if git diff --quiet -- images; then
  echo "nothing to upgrade"
  exit 0
fi

targets="$(launch image list --json | jq --raw-output '.targets[].target')"
body="$(mktemp)"
trap 'rm -f "$body"' EXIT
{
  echo "\`launch image lock --upgrade '*'\` and \`launch image render\`. A workflow's token starts no checks:"
  echo "close and reopen this pull request to run them, after \`make docs\` where licences have changed."
  for target in $targets; do
    printf '\n'
    launch image diff "$target@HEAD" "$target" --markdown
  done
} >"$body"

git switch --quiet --force-create "$BRANCH"
git -c user.name="github-actions[bot]" -c user.email="41898282+github-actions[bot]@users.noreply.github.com" \
  commit --quiet --message "$TITLE" -- images
gh auth setup-git
git push --quiet --force origin "$BRANCH"
if [[ $(gh pr list --head "$BRANCH" --state open --json number --jq length) == 0 ]]; then
  gh pr create --head "$BRANCH" --title "$TITLE" --body-file "$body"
else
  gh pr edit "$BRANCH" --body-file "$body"
fi
