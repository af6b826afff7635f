//! The binary of `weir bench`; see [`weir_bench`].

fn main() -> std::process::ExitCode {
    weir_bench::run()
}
