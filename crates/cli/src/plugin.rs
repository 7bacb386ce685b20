//! `forerunner plugin list` and `inspect`.

use crate::{
    arguments::{Plugin, PluginCommand},
    failure::{Failure, PLUGIN},
    paths,
};
use forerunner_runtime::registry::{self, Description, Registry};
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

pub(crate) fn plugin(arguments: &Plugin, plugins: &[PathBuf]) -> Result<ExitCode, Failure> {
    match &arguments.command {
        PluginCommand::List { json } => list(*json, plugins),
        PluginCommand::Inspect { file, json } => {
            let described = registry::Plugin::load(file)?.describe(file);
            let mut out = io::stdout();
            if *json {
                writeln!(out, "{}", to_json(&described)?)?;
            } else {
                write!(out, "{}", text(&described))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(json: bool, plugins: &[PathBuf]) -> Result<ExitCode, Failure> {
    let folders = paths::plugin_folders(plugins);
    let listed = Registry::new(folders.clone()).list();
    let mut out = io::stdout();
    let mut broken = false;
    let mut good = Vec::new();
    for (_, result) in listed {
        match result {
            Ok(description) => {
                if !json {
                    write!(out, "{}", text(&description))?;
                }
                good.push(description);
            }
            Err(error) => {
                broken = true;
                writeln!(io::stderr(), "error: {error}")?;
            }
        }
    }
    if json {
        writeln!(out, "{}", to_json(&good)?)?;
    } else if good.is_empty() {
        let shown: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        writeln!(out, "no plugins in {}", shown.join(", "))?;
    }
    Ok(if broken { ExitCode::from(PLUGIN) } else { ExitCode::SUCCESS })
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Failure> {
    forerunner_report::to_json(value).map_err(|error| Failure::new(PLUGIN, error))
}

fn text(description: &Description) -> String {
    let exports: Vec<_> =
        description.exports.iter().map(|(kind, name)| format!("{kind} {name}")).collect();
    let Description { path, name, version, .. } = description;
    format!("{name} {version}  {}\n    {}\n", exports.join(", "), path.display())
}
