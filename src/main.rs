//! The program: arguments → configuration → build → run until a signal. No logic here.

fn main() -> std::process::ExitCode {
    frontdoor::cli::main()
}
