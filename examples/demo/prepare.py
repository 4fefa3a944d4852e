"""The demo's input: one line of JSON an installed package, to stdout. Where this image ships no changelogs, some 40
packages are downloaded with apt-get into the cache folder and theirs are taken.

usage: prepare.py CACHE CALLS SINCE"""
import glob
import json
import os
import subprocess
import sys

FEW = 20
WANTED = """apache2-bin apt bash bind9-host busybox curl dbus git gnupg gzip less libc6 libcurl4 libexpat1 libfreetype6
libglib2.0-0 libgnutls30 libpng16-16 libpq5 libsqlite3-0 libssl3 libtiff6 libx11-6 libxml2 linux-libc-dev nginx
openssh-client openssl patch perl-base php8.2-cli postgresql-15 python3.11 rsync ruby3.1 sudo systemd tar tcpdump util-linux
vim-common wget xz-utils zlib1g"""


def installed():
    """(package, source, version) of all installed packages."""
    out = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${source:Package} ${Version}\n"],
        check=True, capture_output=True, text=True).stdout
    rows = [line.split(" ") for line in out.splitlines()]
    return sorted({(r[1], r[2], r[3]) for r in rows if r[0] == "installed"})


def changelog_of(doc, package):
    """Debian's own changelog; packages made for Debian itself call it changelog.gz."""
    for name in ("changelog.Debian.gz", "changelog.gz"):
        path = f"{doc}/{package}/{name}"
        if os.path.isfile(path):
            return os.path.realpath(path)
    return None


def download(cache):
    """Downloads and unpacks WANTED into cache, those that are not there yet; gives rows as installed() does."""
    os.makedirs(f"{cache}/deb", exist_ok=True)
    print("prepare: no changelogs in this image; downloading some 40 packages once", file=sys.stderr)
    for package in WANTED.split():
        if os.path.isdir(f"{cache}/{package}"):
            continue
        got = subprocess.run(["apt-get", "-q", "download", package], cwd=f"{cache}/deb", capture_output=True, text=True)
        files = glob.glob(f"{cache}/deb/{package}_*.deb")
        if got.returncode or not files:  # not in this release: the others are enough
            print(f"prepare: {package} left out: {got.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            continue
        subprocess.run(["dpkg-deb", "-x", files[0], f"{cache}/{package}.part"], check=True)
        os.rename(f"{cache}/{package}.part", f"{cache}/{package}")
    rows = []
    for path in sorted(glob.glob(f"{cache}/deb/*.deb")):
        show = ["dpkg-deb", "-W", "--showformat=${Package} ${source:Package} ${Version}", path]
        rows.append(tuple(subprocess.run(show, check=True, capture_output=True, text=True).stdout.split(" ")))
    return rows


def main():
    cache, calls, since = sys.argv[1:]
    rows = installed()
    docs = {package: "/usr/share/doc" for package, _, _ in rows}
    if sum(changelog_of(docs[p], p) is not None for p, _, _ in rows) < FEW:
        rows = download(cache)
        docs = {package: f"{cache}/{package}/usr/share/doc" for package, _, _ in rows}
        if not rows:
            sys.exit("prepare: no changelogs here and none could be downloaded\n     hint: apt-get update, then again")
    lead, packages = {}, {}
    for package, source, _ in rows:
        packages[source] = packages.get(source, 0) + 1
        if changelog_of(docs[package], package) and (source not in lead or package == source):
            lead[source] = package  # the package that is named like its source, else the first
    for package, source, version in rows:
        print(json.dumps({
            "package": package, "source": source, "version": version, "packages": packages[source],
            "lead": lead.get(source, package), "changelog": changelog_of(docs[package], package),
            "since": since, "calls": calls, "tools": os.path.dirname(os.path.abspath(__file__)),
        }))


main()
