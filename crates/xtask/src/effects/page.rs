//! The page of documentation.

use super::{CONFIDENCE, CONVERTIBLE, Effect, Effects, Study};
use crate::{
    console::print as output,
    speedrun::{Options, Run},
};
use anyhow::Result;
use forerunner_stats::Estimate;
use std::fmt::Write as _;

/// Prints the page.
pub(crate) fn print(
    arguments: &Effects,
    study: &Study,
    singles: &[Effect],
    together: Option<&Effect>,
) -> Result<()> {
    let Effects { seeds, options, .. } = arguments;
    let Options { track, first_seed, .. } = options;
    let n = study.base.len() as f64;
    let seconds = study.base.iter().map(|run| run.seconds).sum::<f64>() / n;
    let loss = study.base.iter().map(|run| run.loss).sum::<f64>() / n;
    let what = if arguments.set.is_empty() {
        format!(
            "# What known techniques gain on the track `{track}`\n\n\
             Every recipe of the mutator `recipes` by itself on the reference program, with its first\n\
             parameters and nothing else tuned"
        )
    } else {
        format!(
            "# What other settings of the reference gain on the track `{track}`\n\n\
             The reference program with other values of its constants"
        )
    };
    let mut page = format!(
        "{what}; {seeds} seeds shared with the reference, from {first_seed} on, slice dev. Made by

```sh
cargo xtask install --prefix target/forerunner
{command}
```

The reference takes {seconds:.1} s to a loss of {loss:.4}. Training it longer or shorter moves the loss
by {:.3} ± {:.3} per unit of ln(seconds); with this exchange rate the loss of a program is converted to
the time that it would need for the reference's loss. Where that is more than {:.0} % away, the program was
measured again with more or fewer steps, so that little remains to be converted; `extrapolated` says that more
than that remains all the same.

**Saving** is the share of the reference's time that is saved at equal loss, with its {:.0} % interval
(paired by seed, Student's t, not corrected for {} comparisons). A negative one costs time here. Loss and
time per step are differences from the reference at equal steps.

| what | saving | interval | loss | time per step |
| --- | --- | --- | --- | --- |
",
        study.exchange.beta,
        study.exchange.se,
        100.0 * CONVERTIBLE,
        100.0 * CONFIDENCE,
        singles.len(),
        command = arguments.command(),
    );
    let mut sorted: Vec<(Option<Estimate>, &Effect)> =
        singles.iter().map(|effect| (study.saving(effect), effect)).collect();
    let value = |saving: &Option<Estimate>| saving.as_ref().map_or(f64::MIN, |s| s.mean);
    sorted.sort_by(|(a, _), (b, _)| value(b).total_cmp(&value(a)));
    for (saving, effect) in &sorted {
        row(&mut page, study, saving.as_ref(), effect)?;
    }
    if let Some(effect) = together {
        row(&mut page, study, study.saving(effect).as_ref(), effect)?;
        let factor = study.saving(effect).map_or(1.0, |saving| saving.mean.exp());
        write!(
            page,
            "\nThe last row holds every technique whose interval lies above zero, as far as they go\n\
             together, best first: {factor:.2} times as fast as the reference.\n"
        )?;
    }
    let effects = || singles.iter().chain(together);
    let mut programs = vec![study.base.as_slice()];
    programs.extend(effects().map(|effect| effect.equal_steps.as_slice()));
    if let Some((deviation, degrees)) = deviation_of_seconds(&programs) {
        let n_programs = programs.iter().filter(|runs| runs.len() > 1).count();
        write!(
            page,
            "\nThe seeds of a program are the same work: over the {n_programs} programs that ran with the reference's\n\
             steps, the seconds charged for it vary with a deviation of {:.1} % ({degrees} degrees of freedom).\n",
            100.0 * deviation.exp_m1()
        )?;
    }
    Ok(output(page.trim_end())?)
}

/// Deviation of the logarithm of a program's seconds from seed to seed, pooled over programs, with
/// its degrees of freedom.
fn deviation_of_seconds(programs: &[&[Run]]) -> Option<(f64, usize)> {
    let (mut squares, mut degrees) = (0.0, 0);
    for runs in programs {
        let logs: Vec<f64> = runs.iter().map(|run| run.seconds.ln()).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        squares += logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>();
        degrees += logs.len().saturating_sub(1);
    }
    (degrees > 0).then(|| ((squares / degrees as f64).sqrt(), degrees))
}

fn row(page: &mut String, study: &Study, saving: Option<&Estimate>, effect: &Effect) -> Result<()> {
    let mut name = effect.names.join(" + ");
    if study.gap(effect).abs() > CONVERTIBLE {
        name += " (extrapolated)";
    }
    let Some(saving) = saving else {
        let why = effect.trouble.as_deref().unwrap_or("no runs");
        writeln!(page, "| {name} | failed | {} | | |", why.replace(['\n', '|'], " "))?;
        return Ok(());
    };
    let share = |log: f64| 100.0 * (1.0 - (-log).exp());
    let loss = study.paired(&effect.equal_steps, |base, run| run.loss - base.loss);
    let time = study.paired(&effect.equal_steps, |base, run| (run.seconds / base.seconds).ln());
    writeln!(
        page,
        "| {name} | {:.1} % | {:.1} % to {:.1} % | {:+.4} | {:+.1} % |",
        share(saving.mean),
        share(saving.low),
        share(saving.high),
        loss.map_or(f64::NAN, |loss| loss.mean),
        time.map_or(f64::NAN, |time| 100.0 * time.mean.exp_m1()),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_pooled_within_programs() {
        let runs = |seconds: &[f64]| -> Vec<Run> {
            let run = |seconds: &f64| Run { seconds: *seconds, cpu_seconds: 1.0, loss: 1.0 };
            seconds.iter().map(run).collect()
        };
        let up = 0.02_f64.exp();
        let (fast, slow, alone) = (runs(&[1.0, up]), runs(&[9.0, 9.0 * up]), runs(&[5.0]));
        let (deviation, degrees) = deviation_of_seconds(&[&fast, &slow, &alone, &[]]).unwrap();
        assert_eq!(degrees, 2);
        assert!((deviation - 0.02 / 2_f64.sqrt()).abs() < 1e-12, "{deviation}");
        assert_eq!(deviation_of_seconds(&[&alone]), None);
    }
}
