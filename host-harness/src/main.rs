//! The `weir` binary; see [`weir_harness::cli`].

fn main() -> std::process::ExitCode {
    weir_harness::cli::run()
}
