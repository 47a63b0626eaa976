//! Kills trainings of `digits_mlp` at random instants and lets them go on; says whether each ended with the bits of one
//! that nobody disturbed.
//!
//! `cargo build --release -p graphc-cli && cargo run --release -p graphc-benches --bin kills target/release/graphc [KILLS] [SEED]`

use std::process::ExitCode;

use graphc_benches::kills::{Campaign, run};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let graphc = args.next();
    let mut number = |default: u64| args.next().map_or(Some(default), |text| text.parse().ok());
    let (Some(graphc), Some(kills), Some(seed)) = (graphc, number(1000), number(1)) else {
        eprintln!("usage: kills GRAPHC [KILLS] [SEED]");
        return ExitCode::from(2);
    };
    let campaign = Campaign { graphc: graphc.into(), kills: kills as usize, epochs: 1500, seed };
    match run(&campaign) {
        Ok(findings) => {
            println!("{findings}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
