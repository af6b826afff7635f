# x86_64-unknown-linux-musl, the target of a release's `weir`. Its C library is musl, its unwinder LLVM's libunwind, as
# in rustup's library.
#
# WORK_DIR/musl-cc is a C compiler for the target: the machine's cc with musl's header files.

std_crates=std,panic_abort,panic_unwind

# Rust's library is made for musl 1.2.5.
fetch_musl() {
    fetch musl-dev '1\.2\.([5-9]|[1-9][0-9])' <<<"$own_first" ||
        die "no archive this machine uses has musl-dev of 1.2.5 or later; $instead"
    libc_dir=$(find "$work/musl-dev" -name libc.a -printf '%h\n' | head -n 1)
    [ -n "$libc_dir" ] || die "musl-dev holds no libc.a"
    local headers
    headers=$(find "$work/musl-dev" -name stdio.h -printf '%h\n' | head -n 1)
    [ -n "$headers" ] || die "musl-dev holds no stdio.h"
    rm -rf "$work/include"
    cp -r "$headers" "$work/include"
    cat >"$work/.musl-cc" <<'CC'
#!/bin/sh
exec cc -nostdinc -isystem "${0%/*}/include" -isystem "$(cc -print-file-name=include)" "$@"
CC
    chmod 755 "$work/.musl-cc"
    mv "$work/.musl-cc" "$work/musl-cc"
}

fetch_c_library() {
    require cc ar
    fetch_musl
    # The newest LLVM that a suite has.
    fetch "$(seq -f 'libunwind-%g-dev' 40 -1 15 | xargs)" . libunwind <<<"$candidates" ||
        die "no archive this machine uses has LLVM's libunwind of version 15 or later; $instead"
    unwinder=$(find "$work/libunwind" -type f -name libunwind.a | head -n 1)
    [ -n "$unwinder" ] || die "libunwind-dev of LLVM holds no libunwind.a"
}

build_flags() { :; }

# libunwind.a also has the functions that a C compiler calls on its own, such as __popcountdi2: those of gcc, since
# Rust's sources without LLVM's have some of them only.
link_objects() {
    local name path
    cp "$libc_dir"/*crt1.o "$libc_dir"/crt[in].o "$libc_dir"/libc.a "$1"
    for name in crtbegin.o crtbeginS.o crtend.o crtendS.o libgcc.a; do
        path=$(cc -print-file-name=$name)
        [ -f "$path" ] || die "cc has no $name; $instead"
        cp "$path" "$1"
    done
    cp "$unwinder" "$1/llvm.a"
    "$work/musl-cc" -O2 -fPIC -c "$targets/libunwind_on_musl.c" -o "$1/libunwind_on_musl.o"
    (cd "$1" && ar -M && rm llvm.a libgcc.a libunwind_on_musl.o) <<'MRI'
create libunwind.a
addlib llvm.a
addlib libgcc.a
addmod libunwind_on_musl.o
save
end
MRI
}

is_finished() { [ -x "$work/musl-cc" ]; }

finish() {
    is_finished || fetch_musl
    rm -rf "$work/musl-dev" "$work/libunwind"
}
