# wasm32-wasip1, the target of the filter's module. Its C library is wasi-libc.

std_crates=std,panic_abort

fetch_c_library() {
    local dir libc=
    fetch wasi-libc . <<<"$own_first" || die "no archive this machine uses has wasi-libc; $instead"
    for dir in wasm32-wasip1 wasm32-wasi; do
        [ -n "$libc" ] || libc=$(find "$work/wasi-libc" -path "*/$dir/libc.a" | head -n 1)
    done
    [ -n "$libc" ] || die "wasi-libc holds no libc.a: $(find "$work/wasi-libc" -name 'libc.a' | tr '\n' ' ')"
    libc_dir=${libc%/libc.a}
}

build_flags() { echo "-C link-self-contained=no -C linker=rust-lld -L $libc_dir"; }

link_objects() { cp "$libc_dir"/crt1*.o "$libc_dir"/libc.a "$1"; }

is_finished() { :; }
finish() { rm -rf "$work/wasi-libc"; }
