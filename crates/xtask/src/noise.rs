//! `cargo xtask noise`: how much results on a track vary, and what a loss is worth in time, as a page
//! of documentation.

use crate::{
    console::print,
    speedrun::{Bench, Candidate, Options, Run},
};
use anyhow::{Context as _, Error, Result, ensure};
use clap::Args;
use forerunner_core::Program;
use forerunner_recipes::Library;
use forerunner_stats::{Estimate, ExchangeRate, sd_upper_limit};
use std::fmt::Write as _;

/// Measure how much results on a track vary, and what a loss is worth in time.
///
/// The reference program is trained with many seeds, and with fewer of them for longer and for
/// shorter. The page goes to standard output.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask install --prefix target/forerunner
  cargo xtask noise > docs/noise-cpu-track.md
  cargo xtask noise --seeds 6 --track fineweb-small")]
pub(crate) struct Noise {
    /// Seeds of the reference.
    #[arg(long, default_value_t = 24, value_name = "N", value_parser = clap::value_parser!(u64).range(3..))]
    seeds: u64,
    #[command(flatten)]
    options: Options,
}

/// Multiples of the reference's steps that the exchange rate is fitted to.
const LENGTHS: [f64; 2] = [0.7, 1.4];

/// The reference gets so many times the seeds of the other lengths.
const SHARE: usize = 3;

/// A recipe whose program is compared with the reference seed by seed.
const PARTNER: &str = "relu-squared";

const CONFIDENCE: f64 = 0.95;

impl Noise {
    pub(crate) fn run(&self) -> Result<()> {
        let library = Library::embedded("nanogpt").context("the plugin has a library `nanogpt`")?;
        let library = library.map_err(Error::msg)?;
        let bench = Bench::new(&self.options)?;
        let reference = bench.reference()?;
        let seeds: Vec<u64> = (self.options.first_seed..).take(self.seeds as usize).collect();
        let few = &seeds[..seeds.len().div_ceil(SHARE).max(2)];

        let one = |name: String, program: Program, seeds: &[u64]| -> Result<Vec<Run>> {
            let runs = bench.measure(&[Candidate { name, program }], seeds)?.remove(0);
            runs.map_err(Error::msg)
        };
        let base = one("reference".into(), reference.clone(), &seeds)?;
        let recipe = library.recipes.iter().find(|recipe| recipe.name == PARTNER);
        let recipe = recipe.context("the partner is in the library")?;
        let partner = library.apply(&reference, PARTNER, &recipe.defaults());
        let partner = partner.map_err(|status| Error::msg(format!("{PARTNER}: {status}")))?;
        let partner = one(PARTNER.into(), partner, few)?;
        let mut points: Vec<(f64, f64)> =
            base[..few.len()].iter().map(|run| (run.seconds, run.loss)).collect();
        for factor in LENGTHS {
            let program =
                library.rescaled(&reference, factor).context("the reference has steps")?;
            let name = format!("reference, {factor} times the steps");
            points.extend(one(name, program, few)?.iter().map(|run| (run.seconds, run.loss)));
        }
        let exchange = ExchangeRate::fit(&points).context("training longer does not help")?;
        print(self.page(&base, &partner, exchange)?)?;
        Ok(())
    }

    fn page(&self, base: &[Run], partner: &[Run], exchange: ExchangeRate) -> Result<String> {
        let Options { track, first_seed, .. } = &self.options;
        let n = base.len();
        let of = |values: Vec<f64>| {
            Estimate::of_mean(&values, CONFIDENCE).context(
                "a measurement kept lacks its CPU seconds\nhint: give another file with --results",
            )
        };
        let loss = of(base.iter().map(|run| run.loss).collect())?;
        let seconds = of(base.iter().map(|run| run.seconds.ln()).collect())?;
        let cpu_seconds = of(base.iter().map(|run| run.cpu_seconds.ln()).collect())?;
        let level = |run: &Run| run.seconds.ln() + run.loss / exchange.beta;
        let at_equal_loss = of(base.iter().map(level).collect())?;
        let pairs = || base.iter().zip(partner);
        let alone = of(partner.iter().map(|run| run.loss).collect())?;
        let paired = of(pairs().map(|(base, run)| run.loss - base.loss).collect())?;
        let same = of(base[..partner.len()].iter().map(|run| run.loss).collect())?;
        let unpaired = alone.sd.hypot(same.sd);
        ensure!(unpaired > 0.0 && paired.sd > 0.0, "all seeds gave the same loss");

        let limit = |sd: f64| sd_upper_limit(sd, n - 1, CONFIDENCE);
        let mut page = format!(
            "# Noise of the track `{track}`\n\n\
             The reference program with {n} seeds, from {first_seed} on, slice dev. Made by\n\n\
             ```sh\n\
             cargo xtask install --prefix target/forerunner\n\
             cargo xtask noise --track {track} --seeds {n} --first-seed {first_seed}\n\
             ```\n\n\
             | the reference | mean | standard deviation | with 95 % less than |\n\
             | --- | --- | --- | --- |\n"
        );
        let (mean, sd) = (loss.mean, loss.sd);
        writeln!(page, "| loss, nats per token | {mean:.4} | {sd:.4} | {:.4} |", limit(sd))?;
        for (name, logs) in [
            ("seconds by the track's clock", seconds),
            ("CPU seconds, as the system counts them", cpu_seconds),
            ("seconds by the clock, at equal loss", at_equal_loss),
        ] {
            let percent = |sd: f64| format!("{:.1} %", 100.0 * sd.exp_m1());
            // Only differences of levels mean something.
            let mean =
                if name.ends_with("loss") { "".into() } else { format!("{:.2}", logs.mean.exp()) };
            writeln!(
                page,
                "| {name} | {mean} | {} | {} |",
                percent(logs.sd),
                percent(limit(logs.sd))
            )?;
        }
        let ExchangeRate { beta, se } = exchange;
        let share = 100.0 * (loss.sd / beta).exp_m1();
        let gain = (unpaired / paired.sd).powi(2);
        write!(
            page,
            "\nTraining longer or shorter ({} and {} times the steps) moves the loss by {beta:.3} ± {se:.3} per\n\
             unit of ln(seconds): {:.4} are worth one per cent of the time, and one standard deviation of a\n\
             seed is worth {share:.1} %. Identical work is charged alike within the second row; the third shows\n\
             what the clock removes.\n\n\
             Pairing by seed: the losses of the reference and of `{PARTNER}` on {} seeds differ with a deviation\n\
             of {:.4} when paired, and would with {unpaired:.4} if they were not: pairing saves seeds by a factor of\n\
             {gain:.2} (below one: it costs some).\n",
            LENGTHS[0],
            LENGTHS[1],
            beta / 100.0,
            partner.len(),
            paired.sd,
        )?;
        Ok(page.trim_end().to_owned())
    }
}
