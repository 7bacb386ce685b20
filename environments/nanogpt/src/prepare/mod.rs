//! Making data sets: from locked dependencies, from text, from existing shards.

mod dependencies;
mod documents;
mod folder;
mod shards;
mod text;

pub use dependencies::{Corpus, from_locked_dependencies};
pub use shards::from_shards;
pub use text::from_text;

use crate::{DataError, Manifest, manifest::Part};
use forerunner_core::{DataReport, DataRequest, DataSource};

/// Makes the data set that `request` asks for.
///
/// # Errors
/// When the material is missing, empty or damaged, or the folder cannot be written.
pub fn run(request: &DataRequest) -> Result<DataReport, DataError> {
    let (name, out) = (request.name.as_str(), request.out.as_path());
    let manifest = match &request.source {
        DataSource::LockedDependencies { manifest } => {
            from_locked_dependencies(manifest, &Corpus::default(), name, out)?
        }
        DataSource::Text { paths } => from_text(paths, name, out)?,
        DataSource::Shards { train, val } => from_shards(train, val, name, out)?,
    };
    Ok(report(&manifest))
}

fn report(manifest: &Manifest) -> DataReport {
    let mut lines =
        vec![format!("{}: {} (vocabulary {})", manifest.name, manifest.source, manifest.vocab)];
    for part in Part::ALL {
        let entry = &manifest.slices[part.name()];
        lines.push(format!(
            "{:<6} {:>12} tokens  sha256 {}",
            part.name(),
            entry.tokens,
            entry.sha256
        ));
    }
    DataReport { fingerprint: manifest.fingerprint(), lines }
}
