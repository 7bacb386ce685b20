//! How long the form of a program takes: `cargo run --release --example form -- PROGRAM.rs …`.

use forerunner_core::Program;
use forerunner_workbench::form;
use std::{io::Write as _, time::Instant};

/// Runs that are timed; the fastest and the middle one are shown.
const RUNS: usize = 201;

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for path in std::env::args().skip(1) {
        let program = Program::single("main.rs", std::fs::read_to_string(&path)?);
        let mut micros: Vec<u128> = (0..RUNS)
            .map(|_| {
                let started = Instant::now();
                std::hint::black_box(form(&program));
                started.elapsed().as_micros()
            })
            .collect();
        micros.sort_unstable();
        writeln!(
            out,
            "{path}: {} bytes, {} µs (fastest {} µs), form {}",
            program.len_bytes(),
            micros[RUNS / 2],
            micros[0],
            form(&program).unwrap_or_else(|| "none".to_owned())
        )?;
    }
    Ok(())
}
