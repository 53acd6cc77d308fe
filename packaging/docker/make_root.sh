#!/bin/sh
# The root of an image that holds the program and nothing else:
#
#     packaging/docker/make_root.sh PROGRAM ROOT
#
# PROGRAM with the libraries that it names, below ROOT, a folder that is made; a user of its own with number 1000, the
# folders that a run writes to, and the licences. There is no shell in it. The Dockerfile's last stage is this folder,
# and `chroot --userspec=1000:1000 ROOT /usr/bin/engine` runs it without a container.
set -eu
program=$1 root=$2
here=$(dirname "$0")/../..
install -D -m 755 "$program" "$root/usr/bin/engine"
# The loader stands in the list alone, the others behind their names; the kernel's own has no file.
ldd "$program" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' | while read -r library; do
    install -D -m 755 "$(readlink -f "$library")" "$root$library"
done
mkdir -p "$root/etc" "$root/home/engine" "$root/data"
install -d -m 1777 "$root/tmp"
echo 'engine:x:1000:1000::/home/engine:/usr/sbin/nologin' >"$root/etc/passwd"
echo 'engine:x:1000:' >"$root/etc/group"
# Whom a build that reaches object stores believes to be these; others have no use for it.
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
    install -D -m 644 "$(readlink -f /etc/ssl/certs/ca-certificates.crt)" "$root/etc/ssl/certs/ca-certificates.crt"
fi
for licence in LICENSE-MIT LICENSE-APACHE; do
    install -D -m 644 "$here/$licence" "$root/usr/share/doc/engine/$licence"
done
# Who runs the program owns what it may write to, where this may be said.
chown 1000:1000 "$root/home/engine" "$root/data" 2>/dev/null || true
