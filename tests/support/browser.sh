#!/usr/bin/env bash
# A headless browser and its driver for the tests of reports and of the board, on a Debian machine as root.
#
#   tests/support/browser.sh install   # do nothing if one is there, else Debian's own, by the machine's sources
#   tests/support/browser.sh status    # one line; exit 0 if there is one
#
# Any Chromium or Chrome with its driver on PATH will do (CHROMEWEBDRIVER names a driver's folder, as on
# GitHub's machines).
set -euo pipefail

say() { printf 'browser: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

browser() {
  local name
  for name in chromium chromium-browser google-chrome; do
    command -v "$name" && return
  done
  return 1
}

driver() { PATH="$PATH${CHROMEWEBDRIVER:+:$CHROMEWEBDRIVER}" command -v chromedriver; }

status_browser() {
  if browser >/dev/null && driver >/dev/null; then
    echo "$("$(browser)" --version) and $(driver)"
  else
    echo "no Chromium or Chrome with its driver"
    return 1
  fi
}

install_browser() {
  if browser >/dev/null && driver >/dev/null; then say "already there: $(status_browser)"; return; fi
  command -v apt-get >/dev/null || die "no browser, and no apt-get to bring Debian's"
  ((EUID == 0)) || die "no browser, and installing one needs root: apt-get install chromium chromium-driver"
  say "apt-get install chromium chromium-driver"
  apt-get -q update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
    install --no-install-recommends chromium chromium-driver fonts-dejavu-core >&2
  say "installed $(status_browser)"
}

case "${1:-}" in
  install) install_browser ;;
  status) status_browser ;;
  *) echo "usage: $0 install | status" >&2; exit 2 ;;
esac
