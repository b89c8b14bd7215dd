use clap::Parser;
#[derive(Parser)]
struct Cli { #[command(flatten)] verify: floe_runner::verify::Args }
fn main() -> std::process::ExitCode {
    match floe_runner::verify::run(&Cli::parse().verify) { Ok(c) => c, Err(e) => { eprintln!("{e:#}"); std::process::ExitCode::from(2) } }
}
