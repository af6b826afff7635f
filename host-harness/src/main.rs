//! (to come)

mod cli;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
enum Weir {
    /// Limits requests with a real Redis, and shows that the limits hold
    Demo(cli::demo::Demo),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Weir::Demo(demo) = Weir::parse();
    match cli::demo::run(demo).await {
        Ok(code) => code,
        Err(why) => {
            eprintln!("weir: {why}");
            ExitCode::FAILURE
        }
    }
}
