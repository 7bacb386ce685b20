//! Shortens an input that ends a child, a little: enough to read it.

use crate::{
    child,
    supervise::{Job, Place, ended, same_kind},
    targets::Target,
};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// Shortening stops after so long; an input that takes its whole CPU limit is tried a few times.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a target made of one input, in a process of its own.
pub(crate) struct Attempt {
    /// Why the process ended before it was done.
    pub(crate) crash: Option<String>,
    pub(crate) answer: String,
    pub(crate) stderr: String,
}

/// Runs `target` once.
pub(crate) fn attempt(target: &Target, input: &[u8]) -> Result<Attempt> {
    let place = Place::new()?;
    let single = place.path().join(child::SINGLE);
    std::fs::write(&single, input).context("cannot write the input for a child")?;
    let finished = place.start(target, Job::Single)?.wait()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (answer, stderr) = (text(&finished.stdout), text(&finished.stderr));
    Ok(Attempt { crash: ended(finished), answer, stderr })
}

/// The shortest input found that ends `target` as `input` does (`kind`): pieces are left out, large
/// ones first. The input itself when it does not do so any more.
pub(crate) fn minimise(target: &Target, input: &[u8], kind: &str) -> Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let ends = |input: &[u8]| -> Result<bool> {
        Ok(attempt(target, input)?.crash.is_some_and(|message| same_kind(&message, kind)))
    };
    let mut best = input.to_vec();
    let mut piece = best.len().div_ceil(2);
    while piece > 0 && Instant::now() < deadline {
        let mut start = 0;
        while start < best.len() && Instant::now() < deadline {
            let mut shorter = best.clone();
            shorter.drain(start..(start + piece).min(best.len()));
            if ends(&shorter)? { best = shorter } else { start += piece }
        }
        piece /= 2;
    }
    Ok(best)
}
