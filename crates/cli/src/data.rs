//! `forerunner data prepare`; `data fetch` is in `fetch`.

use crate::{
    arguments::{Data, DataCommand, Prepare},
    failure::{Failure, USAGE},
    fetch, paths,
};
use forerunner_core::{DataReport, DataRequest, DataSource};
use forerunner_runtime::{
    registry::Registry,
    single::{self, SingleError},
};
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

pub(crate) fn data(arguments: Data, plugins: &[PathBuf]) -> Result<ExitCode, Failure> {
    match arguments.command {
        DataCommand::Prepare(arguments) => prepare(arguments, plugins),
        DataCommand::Fetch(arguments) => fetch::fetch(arguments, plugins),
    }
}

fn prepare(arguments: Prepare, plugins: &[PathBuf]) -> Result<ExitCode, Failure> {
    let Prepare { text, train, val, locked_dependencies, name, out, environment } = arguments;
    let source = match locked_dependencies {
        Some(manifest) => DataSource::LockedDependencies { manifest },
        None if text.is_empty() => DataSource::Shards { train, val },
        None => DataSource::Text { paths: text },
    };
    let request = DataRequest { source, name, out };
    let report = made(&request, &environment, plugins)?;
    let mut output = io::stdout();
    for line in &report.lines {
        writeln!(output, "{line}")?;
    }
    writeln!(output, "{}  {}", request.out.display(), report.fingerprint)?;
    Ok(ExitCode::SUCCESS)
}

/// Has `environment` make a data set.
pub(crate) fn made(
    request: &DataRequest,
    environment: &str,
    plugins: &[PathBuf],
) -> Result<DataReport, Failure> {
    let registry = Registry::new(paths::plugin_folders(plugins));
    let config = serde_json::Value::Object(serde_json::Map::new());
    single::prepare(&registry, environment, &config, request, None).map_err(|error| match error {
        // What was given cannot be used: that is the caller's to mend.
        SingleError::Environment { error, .. } => Failure::new(USAGE, error),
        other => other.into(),
    })
}
