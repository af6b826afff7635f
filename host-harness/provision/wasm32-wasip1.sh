#!/usr/bin/env bash
# Builds Rust's standard library for wasm32-wasip1 from its sources and puts it into the current toolchain, for
# machines where `rustup target add wasm32-wasip1` cannot reach its server.
#
#   wasm32-wasip1.sh WORK_DIR
#
# The sources must be those of the compiler's exact version, since the library is tied to it. They come as Debian
# packages from the archive that this machine already uses, through a private apt state: nothing is installed, and
# nothing is written but WORK_DIR and <sysroot>/lib/rustlib/wasm32-wasip1. Runs as root or not.
set -euo pipefail

target=wasm32-wasip1
# Suites in which Debian publishes newer compilers than that of a stable release, likeliest first.
suites_to_try="trixie-backports forky sid trixie forky-backports bookworm-backports experimental"

say() { echo "wasm32-wasip1: $*" >&2; }
die() { say "$*"; exit 1; }

[ $# -eq 1 ] || die "usage: wasm32-wasip1.sh WORK_DIR"
mkdir -p "$1"
work=$(cd "$1" && pwd)
rustc=${RUSTC:-rustc}
cargo=${CARGO:-cargo}

# Unsets the variables by which a calling cargo or rustup describes its own build. The toolchain stays the caller's.
for name in $(compgen -e); do
    case $name in
        CARGO_HOME | CARGO_HTTP_* | CARGO_NET_* | CARGO_REGISTRIES_* | CARGO_REGISTRY_* | CARGO_SOURCE_*) ;;
        CARGO | CARGO_* | RUSTFLAGS | RUSTC | RUSTC_* | RUSTDOC*) unset "$name" ;;
    esac
done

for tool in apt-get apt-cache dpkg "$cargo" "$rustc"; do
    command -v "$tool" >/dev/null || die "$tool is needed and not found; try: rustup target add $target"
done

sysroot=$("$rustc" --print sysroot)
rustlib=$sysroot/lib/rustlib
version=$("$rustc" --version --verbose | sed -n 's/^release: //p')
commit=$("$rustc" --version --verbose | sed -n 's/^commit-hash: //p')

if compgen -G "$rustlib/$target/lib/libstd-*.rlib" >/dev/null; then
    say "already in $rustlib/$target"
    exit 0
fi
case $version in
    *-*) die "rustc $version is no release, so no Debian package has its sources; try: rustup target add $target" ;;
esac
[ -w "$rustlib" ] || die "$rustlib is not writable for $(id -un); as its owner, try: rustup target add $target"

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

# --- Debian packages through a private apt -----------------------------------------------------------------------

# "URI SUITE" of every binary archive this machine uses, from deb822 and from one-line files.
machine_sources() {
    local dir=${WEIR_APT_DIR:-/etc/apt}
    find "$dir/sources.list.d" -name '*.sources' -exec awk '
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
    { cat "$dir/sources.list"; find "$dir/sources.list.d" -name '*.list' -exec cat {} +; } 2>/dev/null |
        sed -nE 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+)[[:space:]]+([^[:space:]]+).*/\2 \3/p'
}

sources=$(machine_sources | grep -v -e '-security' | sort -u)
[ -n "$sources" ] || die "no Debian archive in /etc/apt/sources.list or /etc/apt/sources.list.d; try: rustup target add $target"

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

# fetch PACKAGE VERSION_PATTERN: reads "URI SUITE" lines, downloads the package from the first suite that has it, and
# unpacks it into $work/PACKAGE.
fetch() {
    local package=$1 pattern=$2 uri suite found
    while read -r uri suite; do
        echo "deb $options $uri $suite main" >"$apt/sources.list"
        private_apt apt-get update >"$apt/update.log" 2>&1 || continue
        found=$(private_apt apt-cache madison "$package" | awk -F' *[|] *' '{print $2}' | grep -E -m1 "$pattern" || true)
        [ -n "$found" ] || continue
        say "$package $found from $suite"
        (cd "$apt/packages" && rm -f "$package"_*.deb && private_apt apt-get download "$package=$found" >&2)
        rm -rf "${work:?}/$package"
        dpkg -x "$apt/packages/$package"_*.deb "$work/$package"
        return 0
    done
    [ ! -s "$apt/update.log" ] || { say "output of the last apt-get update:"; tail -n 5 "$apt/update.log" >&2; }
    return 1
}

uris=$(cut -d' ' -f1 <<<"$sources" | sort -u)
own_suites=$(cut -d' ' -f2 <<<"$sources" | sort -u)
candidates=$(for suite in $suites_to_try $own_suites; do for uri in $uris; do echo "$uri $suite"; done; done)

say "looking for the sources of Rust $version's standard library"
fetch rust-src "^${version//./\\.}[+~-]" <<<"$candidates" ||
    die "no archive this machine uses has rust-src $version (asked: $(echo $suites_to_try $own_suites)); try: rustup target add $target"
fetch wasi-libc . <<<"$sources
$candidates" || die "no archive this machine uses has wasi-libc; try: rustup target add $target"

lock=$(find "$work/rust-src" -maxdepth 6 -path '*/library/Cargo.lock' | head -n 1)
[ -n "$lock" ] || die "rust-src holds no library/Cargo.lock: $(find "$work/rust-src" -maxdepth 4 | head -n 20 | tr '\n' ' ')"
rust_tree=${lock%/library/Cargo.lock}
libc=
for dir in wasm32-wasip1 wasm32-wasi; do
    [ -n "$libc" ] || libc=$(find "$work/wasi-libc" -path "*/$dir/libc.a" | head -n 1)
done
[ -n "$libc" ] || die "wasi-libc holds no libc.a: $(find "$work/wasi-libc" -name 'libc.a' | tr '\n' ' ')"
libc_dir=${libc%/libc.a}

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
(cd "$crate" && RUSTC_BOOTSTRAP=1 RUSTFLAGS="-C embed-bitcode=yes -C link-self-contained=no -C linker=rust-lld -L $libc_dir
        --remap-path-prefix=$rust_tree=/rustc/$commit --remap-path-prefix=$link=/rustc/$commit
        --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=/cargo" \
    "$cargo" build --release --target $target --target-dir "$crate/target" -Zbuild-std=std,panic_abort >"$crate/log" 2>&1) ||
    { tail -n 40 "$crate/log" >&2; die "cargo could not build it"; }

mkdir -p "$staged/lib/self-contained"
cp "$crate/target/$target/release/deps"/*.rlib "$staged/lib/"
rm -f "$staged/lib/libstd_for_"*
cp "$libc_dir"/crt1*.o "$libc_dir"/libc.a "$staged/lib/self-contained/"
compgen -G "$staged/lib/libstd-*.rlib" >/dev/null || die "cargo built no libstd-*.rlib"
rm -rf "${rustlib:?}/$target"
mv -T "$staged" "$rustlib/$target"
rm -rf "$crate/target" "$work/rust-src" "$work/wasi-libc" "$apt"
say "put into $rustlib/$target"
