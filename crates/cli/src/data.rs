//! `forerunner data prepare`.

use crate::{
    arguments::{Data, DataCommand, Prepare},
    failure::{Failure, USAGE},
    paths,
};
use forerunner_core::{DataRequest, DataSource};
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
    let DataCommand::Prepare(arguments) = arguments.command;
    let Prepare { text, train, val, locked_dependencies, name, out, environment } = arguments;
    let source = match locked_dependencies {
        Some(manifest) => DataSource::LockedDependencies { manifest },
        None if text.is_empty() => DataSource::Shards { train, val },
        None => DataSource::Text { paths: text },
    };
    let registry = Registry::new(paths::plugin_folders(plugins));
    let request = DataRequest { source, name, out };
    let config = serde_json::Value::Object(serde_json::Map::new());
    let report =
        single::prepare(&registry, &environment, &config, &request, None).map_err(|error| {
            match error {
                // What was given cannot be used: that is the caller's to mend.
                SingleError::Environment { error, .. } => Failure::new(USAGE, error),
                other => other.into(),
            }
        })?;
    let mut output = io::stdout();
    for line in &report.lines {
        writeln!(output, "{line}")?;
    }
    writeln!(output, "{}  {}", request.out.display(), report.fingerprint)?;
    Ok(ExitCode::SUCCESS)
}
