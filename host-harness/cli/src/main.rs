//! The `weir` binary; see [`weir_harness`].

fn main() -> std::process::ExitCode {
    weir_harness::run()
}
