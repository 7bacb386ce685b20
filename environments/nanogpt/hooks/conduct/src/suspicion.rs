//! What is unusual without being a contradiction. Nothing here rejects.

use crate::{Account, DEV_LOSS, Objection, Place, TRAIN_LOSS};

/// Nats per token between the training loss that a program reports and its measured loss. Programs
/// that train on plain cross-entropy stay within a few tenths; the margin is somewhat arbitrary.
const GAP: f64 = 1.0;
/// Share of everything that was learned which may be learned in the last of at least
/// [`LOOKS`] stretches: curves flatten, so that even a third would be much.
const LATE: f64 = 0.5;
/// Least number of points of a curve that says anything about its end.
const LOOKS: usize = 4;
/// Floating-point operations per second of one measurement on a CPU track, several times what two
/// cores with the widest vector units can do.
const RATE: f64 = 2e12;

pub(crate) fn all(account: &Account) -> Vec<Objection> {
    [gap(account), late(account), rate(account)].into_iter().flatten().collect()
}

/// A program may train on any loss; where it is far from the measured one, say so beside the score.
fn gap(account: &Account) -> Option<Objection> {
    let loss = *account.metrics.get("loss")?;
    let (last, _) = account.series.get(TRAIN_LOSS)?.split_last_chunk().map(|(_, tail)| mean(tail))?;
    ((last - loss).abs() > GAP).then(|| {
        let message = format!(
            "the program reports a training loss of {last:.3}, measured were {loss:.3}: fine when it \
             trains on something else than cross-entropy, otherwise worth a look"
        );
        Objection::warning("training-loss-gap", Place::EndOf(TRAIN_LOSS), message)
    })
}

/// Mean of the last points of a curve, and how many they are.
fn mean(tail: &[(u64, f64); LOOKS]) -> (f64, usize) {
    (tail.iter().map(|(_, value)| value).sum::<f64>() / LOOKS as f64, LOOKS)
}

/// Knowledge that is not learned step by step is poured in at some moment, best at the end.
fn late(account: &Account) -> Option<Objection> {
    let curve = account.series.get(DEV_LOSS).filter(|curve| curve.len() >= LOOKS)?;
    let (_, first) = curve.first()?;
    let [.., (_, before), (_, last)] = &curve[..] else { return None };
    (before - last > LATE * (first - last) && first > last).then(|| {
        let message = "more than half of what the model learned, it learned in the last stretch of \
                       its training; training by gradient flattens towards its end";
        Objection::warning("late-fall", Place::EndOf(DEV_LOSS), message.to_owned())
    })
}

fn rate(account: &Account) -> Option<Objection> {
    let (flops, seconds) = (account.metrics.get("flops")?, account.metrics.get("seconds")?);
    (account.track.starts_with("cpu") && flops / seconds > RATE).then(|| {
        let message = format!(
            "six operations per parameter and token make {:.1e} a second, more than a processor does: \
             either most parameters take no part in most steps, or the seconds are too few",
            flops / seconds
        );
        Objection::warning("implausible-rate", Place::Metric("seconds"), message)
    })
}
