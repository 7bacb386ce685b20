//! `cargo xtask redteam`: programs that game the speedrun, each beside its honest twin, and honest
//! ones that are merely unusual, measured by the installed binary.

mod attack;
mod bench;
mod report;

use crate::{console::say, install, workspace};
use anyhow::{Context as _, Result, bail, ensure};
use attack::Attack;
use bench::{Bench, Job};
use clap::Args;
use report::{Line, Report, Side};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Where the programs are, from the root of the workspace.
const ATTACKS: &str = "tests/redteam";
/// Those of them that only look strange.
const HONEST: &str = "tests/redteam/honest";

/// Measure programs that game the speedrun, and their honest twins.
///
/// Exit code 1 unless every game is refused, or gains nothing, and every honest program is
/// accepted. The table goes to standard output, progress to standard error.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask redteam --install
  cargo xtask redteam --only chunk-means --only honest/muon
  cargo xtask redteam --json > redteam.json

docs/red-team.md says how to add a program.")]
pub(crate) struct RedTeam {
    /// Only programs with this in their name; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Programs measured at the same time [default: one on each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    jobs: Option<u64>,
    /// Install into target/forerunner first.
    #[arg(long)]
    install: bool,
    /// An installation to measure with [default: target/forerunner].
    #[arg(long, value_name = "DIR", conflicts_with = "install")]
    prefix: Option<PathBuf>,
}

impl RedTeam {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let prefix = self.prefix.clone().unwrap_or_else(workspace::prefix);
        if self.install {
            install::install(&prefix, false)?;
        }
        let jobs = self.jobs.and_then(|jobs| usize::try_from(jobs).ok());
        let report = measure(&prefix, &self.only, jobs)?;
        if self.json {
            report.print_json()?
        } else {
            report.print()?
        }
        Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The whole red team against the installation of this checkout; an error unless it is clean.
pub(crate) fn check() -> Result<()> {
    let report = measure(&workspace::prefix(), &[], None)?;
    if !report.is_clean() {
        report.print()?;
        bail!("the red team found something: see the table above, and docs/red-team.md");
    }
    Ok(())
}

fn measure(prefix: &Path, only: &[String], jobs: Option<usize>) -> Result<Report> {
    let chosen = |attack: &Attack| {
        only.is_empty() || only.iter().any(|part| attack.name.contains(part.as_str()))
    };
    let attacks: Vec<Attack> = all()?.into_iter().filter(chosen).collect();
    ensure!(!attacks.is_empty(), "no program in {ATTACKS} has such a name");
    // Many twins are the same program; each is measured once.
    let mut wanted: BTreeMap<Job<'_>, String> = BTreeMap::new();
    for attack in &attacks {
        let (twin, game) = attack.jobs();
        let of_twin = if game.is_some() { " (honest twin)" } else { "" };
        wanted.insert(twin, format!("{}{of_twin}", attack.name));
        wanted.extend(game.map(|game| (game, attack.name.clone())));
    }
    let measured = Bench::new(prefix, jobs)?.measure(wanted)?;
    let of = |job: Job<'_>| measured.get(&job).cloned().context("everything was measured");
    let lines = attacks.iter().map(|attack| {
        let (twin, game) = attack.jobs();
        let twin = of(twin)?;
        Ok(match game {
            None => Line::honest(&attack.name, twin),
            Some(game) => Line {
                name: attack.name.clone(),
                row: Some(attack.row),
                expected: attack.expected.clone(),
                game: Some(Side::game(of(game)?, &attack.expected, &twin)),
                twin: Side::twin(twin),
            },
        })
    });
    let cpu_seconds = measured.values().map(|one| one.cpu_seconds).sum();
    Ok(Report { lines: lines.collect::<Result<_>>()?, n_programs: measured.len(), cpu_seconds })
}

/// Every program of the red team, attacks first, by name.
fn all() -> Result<Vec<Attack>> {
    let root = workspace::root();
    let mut attacks = Vec::new();
    let mut names = BTreeSet::new();
    for folder in [ATTACKS, HONEST] {
        let is_honest = folder == HONEST;
        for path in workspace::sorted(&root.join(folder))? {
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let name = if is_honest { format!("honest/{stem}") } else { stem.into_owned() };
            let attack =
                if is_honest { Attack::honest(&name, &text) } else { Attack::read(&name, &text) };
            let attack = attack.with_context(|| format!("{}", path.display()))?;
            ensure!(names.insert(name), "two programs are called {}", attack.name);
            attacks.push(attack);
        }
    }
    if attacks.is_empty() {
        say(format_args!("there are no programs in {ATTACKS}"));
    }
    Ok(attacks)
}

#[cfg(test)]
mod tests {
    use super::{attack::Expected, *};

    use forerunner_core::Program;
    use forerunner_workbench::Rules;

    #[test]
    fn every_program_of_the_red_team_can_be_read() {
        let attacks = all().unwrap();
        let games = attacks.iter().filter(|attack| attack.expected != Expected::Accepted);
        for attack in games.clone() {
            assert_ne!(attack.game, attack.twin, "{}: nothing is marked as gaming", attack.name);
        }
        let rows: BTreeSet<u32> = games.map(|attack| attack.row).collect();
        let missing: Vec<u32> = (1..=40).filter(|row| !rows.contains(row)).collect();
        assert_eq!(missing, [0; 0], "rows of the catalogue without a program");
    }

    /// What source rules alone decide needs no measuring to be tested.
    #[test]
    fn source_rules_refuse_what_they_must_and_nothing_else() {
        let rules =
            Rules { macros: ["ensure", "bail"].map(str::to_owned).into(), ..Rules::default() };
        let check = |text: &str| rules.check(&Program::single("main.rs", text));
        for attack in all().unwrap() {
            assert_eq!(check(&attack.twin), [], "the honest twin of {}", attack.name);
            let found = check(&attack.game);
            let by_source = |rule: &String| rule.starts_with("source/");
            match &attack.expected {
                Expected::Refused { rules } if rules.iter().all(by_source) => assert!(
                    found.iter().any(|finding| rules.contains(&finding.rule)),
                    "{}: {found:?}",
                    attack.name
                ),
                Expected::Refused { rules } if rules.iter().any(by_source) => {}
                _ => assert_eq!(found, [], "{} is stopped by something else", attack.name),
            }
        }
    }
}
