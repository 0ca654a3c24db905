#!/usr/bin/env bash
# What writes real documents for the tests, on a Debian machine as root: LibreOffice Writer without a screen, and
# fonts with Chinese.
#
#   tests/support/documents.sh install   # do nothing if it is there, else Debian's own, by the machine's sources
#   tests/support/documents.sh status    # one line; exit 0 if it is there
set -euo pipefail

readonly PACKAGES=(libreoffice-writer-nogui fonts-wqy-zenhei fonts-dejavu-core)

say() { printf 'documents: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# Other builds of LibreOffice will do; the fonts' names stand in the tests' documents.
there() {
  command -v soffice >/dev/null && command -v fc-list >/dev/null &&
    [[ -n "$(fc-list 'WenQuanYi Zen Hei')" && -n "$(fc-list 'DejaVu Sans')" ]]
}

status_documents() {
  if there; then soffice --version; else echo "no LibreOffice with its fonts"; return 1; fi
}

install_documents() {
  if there; then say "already there"; return; fi
  command -v apt-get >/dev/null || die "no LibreOffice, and no apt-get to bring Debian's"
  ((EUID == 0)) || die "no LibreOffice, and installing it needs root: apt-get install ${PACKAGES[*]}"
  say "apt-get install ${PACKAGES[*]}"
  apt-get -q update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
    install --no-install-recommends "${PACKAGES[@]}" fontconfig >&2
  say "installed $(status_documents)"
}

case "${1:-}" in
  install) install_documents ;;
  status) status_documents ;;
  *) echo "usage: $0 install | status" >&2; exit 2 ;;
esac
