//! The process that runs a target, within the limits of the sandbox.
//!
//! It notes every input in a file before it runs it; when it ends, its parent finds there what ended
//! it. Its standard output says from time to time how far it is: `INPUTS ANSWERS` a line.

use crate::{
    mutate::Mutator,
    targets::{self, Target},
};
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    process::ExitCode,
    time::{Duration, Instant},
};

/// The first argument of a child.
pub(crate) const ARGUMENT: &str = "__child";

/// In the work directory: the input of the moment, after its length as a little-endian `u64`.
pub(crate) const CURRENT: &str = "current";

/// In the work directory: the only input of a child without a seed.
pub(crate) const SINGLE: &str = "single";

/// How often it says how far it is.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Instead of a seed: run the corpus once and say what comes of each input.
pub(crate) const CORPUS: &str = "corpus";

/// `TARGET SEED`: for ever; `TARGET corpus`: its corpus; `TARGET`: once, on the file [`SINGLE`].
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let target = arguments.first().and_then(|name| targets::find(name));
    let done = match (target, arguments.get(1).map(String::as_str)) {
        (Some(target), None) => once(target),
        (Some(target), Some(CORPUS)) => corpus(target),
        (Some(target), Some(seed)) if seed.parse::<u64>().is_ok() => {
            endless(target, seed.parse().unwrap_or(0))
        }
        _ => Err(io::Error::other("this is started by `cargo xtask fuzz` only")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::say(error);
            ExitCode::from(2)
        }
    }
}

fn once(target: &Target) -> io::Result<()> {
    let answer = (target.run)(&fs::read(SINGLE)?);
    target.check_memory();
    writeln!(io::stdout(), "{answer}")
}

fn corpus(target: &Target) -> io::Result<()> {
    for input in (target.corpus)() {
        writeln!(io::stdout(), "{}", (target.run)(&input).replace('\n', " "))?;
        target.check_memory();
    }
    Ok(())
}

fn endless(target: &Target, seed: u64) -> io::Result<()> {
    let note = File::options().write(true).create(true).truncate(true).open(CURRENT)?;
    let corpus = (target.corpus)();
    let n_corpus = corpus.len() as u64;
    let mut mutator = Mutator::new(seed, corpus, target.dictionary, target.longest);
    let (mut n_inputs, mut reported) = (0_u64, Instant::now());
    loop {
        let input = mutator.next();
        let mut record = (input.len() as u64).to_le_bytes().to_vec();
        record.extend_from_slice(&input);
        note.write_all_at(&record, 0)?;
        let answer = (target.run)(&input);
        target.check_memory();
        mutator.learn(input, &answer);
        n_inputs += 1;
        if n_inputs <= n_corpus || reported.elapsed() > REPORT_EVERY {
            reported = Instant::now();
            writeln!(io::stdout(), "{n_inputs} {}", mutator.n_answers())?;
        }
    }
}

/// The input that a child noted last.
pub(crate) fn noted(record: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = record.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    rest.get(..length).map(<[u8]>::to_vec)
}
