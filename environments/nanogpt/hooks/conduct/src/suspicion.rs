//! What is unusual without being a contradiction. Nothing here rejects.

use crate::{Account, DEV_LOSS, Objection, Place};

/// Share of everything learned that may be learned between the last two looks. Looks are taken after
/// 32, 64, 128 … batches and at the end, so that this is at most the second half of the training, and
/// curves flatten: even a third would be much.
const LATE: f64 = 0.5;
/// Least number of looks that says anything about the end: in a short training most is warm-up.
const LOOKS: usize = 6;
/// Floating-point operations per second of one measurement on a CPU track, several times what two
/// cores with the widest vector units can do.
const RATE: f64 = 2e12;

pub(crate) fn all(account: &Account) -> Vec<Objection> {
    [late(account), gradients(account), rate(account)].into_iter().flatten().collect()
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

/// The count comes from the program's own process, so that it proves nothing either way.
fn gradients(account: &Account) -> Option<Objection> {
    let entry = |name: &str| account.ledger.get(name).copied();
    (entry("reported_gradients")? == 0 && entry("batches")? > 0).then(|| {
        let message = "tokens were served, but no gradient was reported: parameters must be trained by \
                       gradient from values that do not depend on the data";
        Objection::warning("no-gradients", Place::Metric("steps"), message.to_owned())
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
