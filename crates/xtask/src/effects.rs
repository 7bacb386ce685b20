//! `cargo xtask effects`: what each recipe gains by itself on a track of the NanoGPT speedrun, and
//! what the good ones gain together, as a page of documentation; or what other settings of the
//! reference's constants gain, which shows how well it is tuned.

mod page;

use crate::speedrun::{Bench, Candidate, Options, Run, with_constant};
use anyhow::{Context as _, Error, Result, anyhow, ensure};
use clap::Args;
use forerunner_core::Program;
use forerunner_recipes::Library;
use forerunner_stats::{Estimate, ExchangeRate};

/// Measure what known techniques, or other settings, gain on a track of the speedrun.
///
/// Every program is measured by `forerunner evaluate` with the seeds of the reference, one program
/// at a time on each core that this process may use. What was measured is kept, so an interrupted
/// study goes on where it was. The page goes to standard output.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask install --prefix target/forerunner
  cargo xtask effects > docs/effects-cpu-track.md
  cargo xtask effects --only rotary,muon --seeds 2
  cargo xtask effects --set LEARNING_RATE=4e-3 --set LEARNING_RATE=6e-3 --set BATCH=4,STEPS=4400")]
pub(crate) struct Effects {
    /// Seeds per program, shared by all.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    seeds: u64,
    #[command(flatten)]
    options: Options,
    /// Measure these recipes only.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Measure the reference with this setting instead of recipes; may be given several times.
    #[arg(long, conflicts_with = "only", value_name = "NAME=VALUE,...")]
    set: Vec<String>,
}

/// Multiples of the reference's steps that the exchange rate is fitted to.
const LENGTHS: [f64; 3] = [0.7, 1.0, 1.4];

/// A program whose loss is further from the reference's than this, in logarithms of the cost, is
/// measured again with other steps: the exchange rate holds for small gaps.
const CONVERTIBLE: f64 = 0.12;

/// How often.
const CORRECTIONS: usize = 2;

/// Steps in which a combination shows that it breaks no rule.
const TRIAL_STEPS: &str = "8";

/// Confidence of every interval.
const CONFIDENCE: f64 = 0.9;

/// A program beside the reference.
struct Effect {
    /// Its recipes.
    names: Vec<String>,
    program: Program,
    /// One for each seed, with as many steps as the reference; empty when the program failed.
    equal_steps: Vec<Run>,
    /// The same with about the reference's loss.
    equal_loss: Vec<Run>,
    /// Why there are no runs.
    trouble: Option<String>,
}

/// Everything that is known in the end.
struct Study {
    library: Library,
    reference: Program,
    bench: Bench,
    seeds: Vec<u64>,
    exchange: ExchangeRate,
    /// The reference, a run for each seed.
    base: Vec<Run>,
}

impl Effects {
    pub(crate) fn run(&self) -> Result<()> {
        let library = Library::embedded("nanogpt").context("the plugin has a library `nanogpt`")?;
        let library = library.map_err(Error::msg)?;
        for name in &self.only {
            let known = library.recipes.iter().any(|recipe| recipe.name == *name);
            ensure!(known, "no recipe `{name}`");
        }
        let seeds = (self.options.first_seed..).take(self.seeds as usize).collect();
        let study = Study::begin(library, Bench::new(&self.options)?, seeds)?;
        if !self.set.is_empty() {
            return page::print(self, &study, &study.settings(&self.set)?, None);
        }
        let singles = study.singles(&self.only)?;
        let together = study.together(&singles)?;
        page::print(self, &study, &singles, together.as_ref())
    }
}

impl Effects {
    /// The command line that measures the same again.
    fn command(&self) -> String {
        let Options { track, first_seed, .. } = &self.options;
        let mut command = format!("cargo xtask effects --track {track}");
        command += &format!(" --seeds {} --first-seed {first_seed}", self.seeds);
        for setting in &self.set {
            command += &format!(" --set {setting}");
        }
        if !self.only.is_empty() {
            command += &format!(" --only {}", self.only.join(","));
        }
        command
    }
}

impl Study {
    /// Measures the reference at several lengths.
    fn begin(library: Library, bench: Bench, seeds: Vec<u64>) -> Result<Self> {
        let reference = bench.reference()?;
        let of_length = |factor: f64| Candidate {
            name: format!("reference, {factor} times the steps"),
            program: library.rescaled(&reference, factor).unwrap_or_else(|| reference.clone()),
        };
        let measured = bench.measure(&LENGTHS.map(of_length), &seeds)?;
        let runs: Vec<&Run> = measured.iter().flatten().flatten().collect();
        ensure!(runs.len() == LENGTHS.len() * seeds.len(), "the reference failed");
        let points: Vec<_> = runs.iter().map(|run| (run.seconds, run.loss)).collect();
        let exchange = ExchangeRate::fit(&points).context("training longer does not help")?;
        let base = runs[seeds.len()..2 * seeds.len()].iter().map(|run| **run).collect();
        Ok(Self { library, reference, bench, seeds, exchange, base })
    }

    /// Every recipe by itself, or on top of what it requires.
    fn singles(&self, only: &[String]) -> Result<Vec<Effect>> {
        let mut sets = Vec::new();
        for recipe in &self.library.recipes {
            if only.is_empty() || only.contains(&recipe.name) {
                let names =
                    [recipe.requires.as_slice(), std::slice::from_ref(&recipe.name)].concat();
                let program = self.with(&names);
                sets.push((program.map_err(|why| anyhow!("{}: {why}", recipe.name))?, names));
            }
        }
        self.effects(sets)
    }

    /// The reference with other values of its constants.
    fn settings(&self, settings: &[String]) -> Result<Vec<Effect>> {
        let mut sets = Vec::new();
        for setting in settings {
            let mut program = self.reference.clone();
            for pair in setting.split(',') {
                let (name, value) = pair.split_once('=').context("--set wants NAME=VALUE")?;
                program = with_setting(&program, name.trim(), value.trim())?;
            }
            sets.push((program, vec![setting.clone()]));
        }
        self.effects(sets)
    }

    /// The good recipes, best first, as far as they go together.
    fn together(&self, singles: &[Effect]) -> Result<Option<Effect>> {
        let mut good: Vec<(f64, &Effect)> = singles
            .iter()
            .filter_map(|effect| Some((self.saving(effect)?, effect)))
            .filter(|(saving, _)| saving.is_positive())
            .map(|(saving, effect)| (saving.mean, effect))
            .collect();
        good.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut names: Vec<String> = Vec::new();
        let mut program = self.reference.clone();
        for name in good.iter().flat_map(|(_, effect)| &effect.names) {
            if names.contains(name) {
                continue;
            }
            let next = self.with(&[names.as_slice(), std::slice::from_ref(name)].concat());
            let Ok(next) = next else { continue };
            let short = with_setting(&next, "STEPS", TRIAL_STEPS)?;
            // Together they may break a rule, as by too many parameters.
            if self.bench.passes(&short)? {
                names.push(name.clone());
                program = next;
            }
        }
        Ok(self.effects(vec![(program, names)])?.pop().filter(|effect| effect.names.len() > 1))
    }

    fn with(&self, names: &[String]) -> Result<Program, String> {
        let mut program = self.reference.clone();
        for name in names {
            let values = self.library.recipes.iter().find(|recipe| recipe.name == *name);
            let values = values.map(|recipe| recipe.defaults()).unwrap_or_default();
            let next = self.library.apply(&program, name, &values);
            program = next.map_err(|status| status.to_string())?;
        }
        Ok(program)
    }

    /// Measures programs, with corrected steps where the loss is far from the reference's.
    fn effects(&self, sets: Vec<(Program, Vec<String>)>) -> Result<Vec<Effect>> {
        let candidates: Vec<_> = sets
            .into_iter()
            .map(|(program, names)| Candidate { name: names.join(" + "), program })
            .collect();
        let mut effects = Vec::new();
        for (candidate, runs) in
            candidates.iter().zip(self.bench.measure(&candidates, &self.seeds)?)
        {
            let trouble = runs.as_ref().err().cloned();
            let runs = runs.unwrap_or_default();
            effects.push(Effect {
                names: candidate.name.split(" + ").map(str::to_owned).collect(),
                program: candidate.program.clone(),
                equal_steps: runs.clone(),
                equal_loss: runs,
                trouble,
            });
        }
        for _ in 0..CORRECTIONS {
            let far = effects.iter_mut().filter(|effect| self.gap(effect).abs() > CONVERTIBLE);
            let (far, again): (Vec<_>, Vec<_>) = far
                .filter_map(|effect| {
                    let factor = self.gap(effect).clamp(-1.0, 0.5).exp();
                    let program = self.library.rescaled(&effect.program, factor)?;
                    let name = format!("{}, {factor:.2} times the steps", effect.names.join(" + "));
                    Some((effect, Candidate { name, program }))
                })
                .unzip();
            for ((effect, candidate), runs) in
                far.into_iter().zip(&again).zip(self.bench.measure(&again, &self.seeds)?)
            {
                // A failure with other steps leaves what is known.
                if let Ok(runs) = runs {
                    effect.program = candidate.program.clone();
                    effect.equal_loss = runs;
                }
            }
        }
        Ok(effects)
    }

    /// How much longer a program must train for the reference's loss, as a logarithm.
    fn gap(&self, effect: &Effect) -> f64 {
        let differences = self.paired(&effect.equal_loss, |base, run| run.loss - base.loss);
        differences.map_or(0.0, |estimate| estimate.mean / self.exchange.beta)
    }

    /// Logarithm of the reference's cost over the program's, at equal loss.
    fn saving(&self, effect: &Effect) -> Option<Estimate> {
        self.paired(&effect.equal_loss, |base, run| {
            (base.seconds / run.seconds).ln() + (base.loss - run.loss) / self.exchange.beta
        })
    }

    fn paired(&self, runs: &[Run], of: impl Fn(&Run, &Run) -> f64) -> Option<Estimate> {
        let values: Vec<f64> =
            self.base.iter().zip(runs).map(|(base, run)| of(base, run)).collect();
        Estimate::of_mean(&values, CONFIDENCE)
    }
}

/// The program with another value of a constant.
fn with_setting(program: &Program, name: &str, value: &str) -> Result<Program> {
    let texts = program.files.iter();
    let files = texts.map(|(file, text)| Ok((file.clone(), with_constant(text, name, value)?)));
    Ok(Program { files: files.collect::<Result<_>>()? })
}
