#!/usr/bin/env bash
# Builds Rust's standard library for a target from its sources and puts it into the current toolchain, for machines
# where `rustup target add TARGET` cannot reach its server.
#
#   rust-library.sh TARGET WORK_DIR
#
# The sources must be those of the compiler's exact version, since the library is tied to it. They come as Debian
# packages from the archive that this machine already uses, through a private apt state: nothing is installed, and
# nothing is written but WORK_DIR and <sysroot>/lib/rustlib/TARGET. Runs as root or not.
#
# rust-library/TARGET.sh has what differs between targets:
#
#   std_crates             crates to build, for -Zbuild-std
#   fetch_c_library        fetches packages, and sets libc_dir to the folder of libc.a
#   build_flags            prints more flags for the library's crates
#   link_objects FOLDER    puts libc.a and the objects of a program's start and end there
#   is_finished            whether all that a build for the target needs is in WORK_DIR
#   finish                 makes what is missing of it, and removes the packages of fetch_c_library
set -euo pipefail

# Suites in which Debian publishes newer compilers than that of a stable release, likeliest first.
suites_to_try="trixie-backports forky sid trixie forky-backports bookworm-backports experimental"

target=${1-rust-library.sh}
say() { echo "$target: $*" >&2; }
die() { say "$*"; exit 1; }

[ $# -eq 2 ] || die "usage: rust-library.sh TARGET WORK_DIR"
targets=$(cd "$(dirname "${BASH_SOURCE[0]}")/rust-library" && pwd)
instead="try: rustup target add $target"
[ -f "$targets/$target.sh" ] || die "expected one of $(basename -as .sh "$targets"/*.sh | xargs); $instead"
. "$targets/$target.sh"
mkdir -p "$2"
work=$(cd "$2" && pwd)
rustc=${RUSTC:-rustc}
cargo=${CARGO:-cargo}

# Unsets the variables by which a calling cargo or rustup describes its own build. The toolchain stays the caller's.
for name in $(compgen -e); do
    case $name in
        CARGO_HOME | CARGO_HTTP_* | CARGO_NET_* | CARGO_REGISTRIES_* | CARGO_REGISTRY_* | CARGO_SOURCE_*) ;;
        CARGO | CARGO_* | RUSTFLAGS | RUSTC | RUSTC_* | RUSTDOC*) unset "$name" ;;
    esac
done

require() {
    for tool in "$@"; do
        command -v "$tool" >/dev/null || die "$tool is needed and not found; $instead"
    done
}

require apt-get apt-cache dpkg "$cargo" "$rustc"

sysroot=$("$rustc" --print sysroot)
rustlib=$sysroot/lib/rustlib
version=$("$rustc" --version --verbose | sed -n 's/^release: //p')
commit=$("$rustc" --version --verbose | sed -n 's/^commit-hash: //p')

is_in_toolchain() { compgen -G "$rustlib/$target/lib/libstd-*.rlib" >/dev/null; }

if is_in_toolchain; then
    say "already in $rustlib/$target"
    ! is_finished || exit 0
fi

# --- Debian packages through a private apt -----------------------------------------------------------------------

apt_dir=${WEIR_APT_DIR:-/etc/apt}

# "URI SUITE" of every binary archive this machine uses, from deb822 and from one-line files.
machine_sources() {
    find "$apt_dir/sources.list.d" -name '*.sources' -exec awk '
        function end_of_stanza(   i, j, n, m) {
            if (types ~ /(^| )deb( |$)/ && enabled !~ /no/) {
                n = split(uris, u, " "); m = split(suites, s, " ")
                for (i = 1; i <= n; i++) for (j = 1; j <= m; j++) print u[i], s[j]
            }
            types = uris = suites = enabled = field = ""
        }
        FNR == 1 { end_of_stanza() }
        /^#/ { next }
        /^[ \t]*$/ { end_of_stanza(); next }
        /^[^ \t]/ { field = tolower(substr($0, 1, index($0, ":") - 1)); sub(/^[^:]*:/, "") }
        field == "types" { types = types " " $0 }
        field == "uris" { uris = uris " " $0 }
        field == "suites" { suites = suites " " $0 }
        field == "enabled" { enabled = tolower($0) }
        END { end_of_stanza() }' {} + 2>/dev/null
    { cat "$apt_dir/sources.list"; find "$apt_dir/sources.list.d" -name '*.list' -exec cat {} +; } 2>/dev/null |
        sed -nE 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+)[[:space:]]+([^[:space:]]+).*/\2 \3/p'
}

sources=$(machine_sources | grep -v -e '-security' | sort -u || true)
[ -n "$sources" ] || die "no Debian archive in $apt_dir/sources.list or $apt_dir/sources.list.d; $instead"

options=
for keyring in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
    if [ -r "$keyring" ]; then options="[signed-by=$keyring]"; break; fi
done

apt=$work/apt
mkdir -p "$apt"/{lists/partial,cache/archives/partial,packages}
: >"$apt/status"
# apt reads this file after the machine's configuration. Proxies and credentials of the latter stay in force; its hooks
# are cleared, since they would clean up other folders. Check-Valid-Until is off because a mirror may be frozen; apt
# still checks signatures.
cat >"$apt/apt.conf" <<CONF
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
#clear DPkg::Post-Invoke;
APT::Sandbox::User "$(id -un)";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
private_apt() {
    local tool=$1
    shift
    "$tool" -c "$apt/apt.conf" "$@"
}

# fetch PACKAGES VERSION_PATTERN [FOLDER]: reads "URI SUITE" lines, downloads the first of the packages that a suite has
# from the first suite that has any, and unpacks it into $work/FOLDER. The folder's name is that of a lone package.
fetch() {
    local packages=$1 pattern=$2 folder=${3-$1} uri suite found package
    while read -r uri suite; do
        echo "deb $options $uri $suite main" >"$apt/sources.list"
        private_apt apt-get update >"$apt/update.log" 2>&1 || continue
        found=$(private_apt apt-cache madison $packages 2>/dev/null | sed -E 's/^ *([^ ]+) *[|] *([^ ]+).*/\1=\2/' |
            grep -E -m1 "=($pattern)" || true)
        [ -n "$found" ] || continue
        package=${found%%=*}
        say "$package ${found#*=} from $suite"
        (cd "$apt/packages" && rm -f "$package"_*.deb && private_apt apt-get download "$found" >&2)
        rm -rf "${work:?}/$folder"
        dpkg -x "$apt/packages/$package"_*.deb "$work/$folder"
        return 0
    done
    [ ! -s "$apt/update.log" ] || { say "output of the last apt-get update:"; tail -n 5 "$apt/update.log" >&2; }
    return 1
}

uris=$(cut -d' ' -f1 <<<"$sources" | sort -u)
own_suites=$(cut -d' ' -f2 <<<"$sources" | sort -u)
candidates=$(for suite in $suites_to_try $own_suites; do for uri in $uris; do echo "$uri $suite"; done; done)
own_first=$sources$'\n'$candidates

# --- Sources -------------------------------------------------------------------------------------------------------

if is_in_toolchain; then
    finish
    rm -rf "$apt"
    exit 0
fi
case $version in
    *-*) die "rustc $version is no release, so no Debian package has its sources; $instead" ;;
esac
[ -w "$rustlib" ] || die "$rustlib is not writable for $(id -un); as its owner, $instead"

link=$rustlib/src/rust
staged=$rustlib/.$target.$$
linked=
made_src=
tidy() {
    status=$?
    rm -rf "$staged"
    [ -z "$linked" ] || rm -f "$link"
    [ -z "$made_src" ] || rmdir "$rustlib/src" 2>/dev/null || true
    [ $status -eq 0 ] || say "failed; the files made so far are in $work"
}
trap tidy EXIT

say "looking for the sources of Rust $version's standard library"
fetch rust-src "${version//./\\.}[+~-]" <<<"$candidates" ||
    die "no archive this machine uses has rust-src $version (asked: $(echo $suites_to_try $own_suites)); $instead"
fetch_c_library

lock=$(find "$work/rust-src" -maxdepth 6 -path '*/library/Cargo.lock' | head -n 1)
[ -n "$lock" ] || die "rust-src holds no library/Cargo.lock: $(find "$work/rust-src" -maxdepth 4 | head -n 20 | tr '\n' ' ')"
rust_tree=${lock%/library/Cargo.lock}

# --- Build ---------------------------------------------------------------------------------------------------------

if [ ! -e "$link" ]; then
    [ -d "$rustlib/src" ] || { mkdir "$rustlib/src" && made_src=yes; }
    rm -f "$link"
    ln -s "$rust_tree" "$link"
    linked=yes
fi

crate=$work/build
rm -rf "$crate"
mkdir -p "$crate/src"
: >"$crate/src/lib.rs"
# The crate is a workspace of its own, since it lies inside the checkout's workspace.
printf '[package]\nname = "std-for-%s"\nedition = "2021"\n[workspace]\n' "$target" >"$crate/Cargo.toml"

say "building the standard library (about a minute)"
# The library needs bitcode: the filter's release profile optimises across crates, including std's. Its sources have
# the names of rustup's libraries, so that a module names no folder of this machine, and is the same on another.
(cd "$crate" && RUSTC_BOOTSTRAP=1 RUSTFLAGS="-C embed-bitcode=yes $(build_flags)
        --remap-path-prefix=$rust_tree=/rustc/$commit --remap-path-prefix=$link=/rustc/$commit
        --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=/cargo" \
    "$cargo" build --release --target "$target" --target-dir "$crate/target" "-Zbuild-std=$std_crates" \
    >"$crate/log" 2>&1) ||
    { tail -n 40 "$crate/log" >&2; die "cargo could not build it"; }

mkdir -p "$staged/lib/self-contained"
cp "$crate/target/$target/release/deps"/*.rlib "$staged/lib/"
rm -f "$staged/lib/libstd_for_"*
link_objects "$staged/lib/self-contained"
compgen -G "$staged/lib/libstd-*.rlib" >/dev/null || die "cargo built no libstd-*.rlib"
rm -rf "${rustlib:?}/$target"
mv -T "$staged" "$rustlib/$target"
finish
rm -rf "$crate/target" "$work/rust-src" "$apt"
say "put into $rustlib/$target"
