//! The binary of the program `tweedie`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tweedie_cli::main(std::env::args_os()).into()
}
