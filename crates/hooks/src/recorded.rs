//! One evaluation with all its evidence, in a file: what a hook is tried on.

use forerunner_core::{Evaluation, Program, Slice};
use forerunner_verify::Subject;
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Everything that a hook may ask about one evaluation, as `forerunner evaluate --save-evidence`
/// writes it: a JSON file, and beside it a folder `NAME.artifacts` with the artifacts.
///
/// In the file the paths of artifacts are relative to the file's folder; in memory they are not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Name of the environment.
    pub environment: String,
    /// The track within it.
    #[serde(default)]
    pub track: String,
    /// What was measured.
    pub program: Program,
    /// What it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Program>,
    /// The injected seed.
    pub seed: u64,
    /// The held-out data that decided.
    #[serde(default)]
    pub slice: Slice,
    /// The outcome with metrics, telemetry and evidence.
    pub evaluation: Evaluation,
}

/// Why recorded evidence cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}\nhint: `forerunner evaluate … --save-evidence FILE` writes such a file", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not recorded evidence.
    #[error("{} is not recorded evidence: {source}\nhint: `forerunner evaluate … --save-evidence FILE` writes such a file", .path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// An artifact's path leads out of the file's folder.
    #[error("{}: the artifact `{name}` is outside the folder of this file\nhint: give a path relative to the file, without `..`", .path.display())]
    Outside {
        /// The file.
        path: PathBuf,
        /// The artifact.
        name: String,
    },
}

impl Recorded {
    /// The same, as a hook is asked to judge it.
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            environment: &self.environment,
            track: &self.track,
            program: &self.program,
            parent: self.parent.as_ref(),
            seed: self.seed,
            slice: self.slice,
            evaluation: &self.evaluation,
        }
    }

    /// Reads a file. Artifacts are not opened.
    ///
    /// # Errors
    /// When it cannot be read, is something else, or names an artifact outside its folder.
    pub fn read(path: &Path) -> Result<Self, RecordedError> {
        let text = std::fs::read(path)
            .map_err(|source| RecordedError::Read { path: path.to_owned(), source })?;
        let mut recorded: Self = serde_json::from_slice(&text)
            .map_err(|source| RecordedError::Form { path: path.to_owned(), source })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for (name, place) in &mut recorded.evaluation.evidence.artifacts {
            if !is_below(place) {
                let (path, name) = (path.to_owned(), name.clone());
                return Err(RecordedError::Outside { path, name });
            }
            *place = folder.join(&*place);
        }
        Ok(recorded)
    }

    /// Writes the file and copies the artifacts beside it; what was there is replaced.
    ///
    /// # Errors
    /// When an artifact cannot be read or something cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RecordedError> {
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            |source| RecordedError::Write { path, source }
        };
        let mut moved = self.clone();
        let artifacts = &mut moved.evaluation.evidence.artifacts;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let below = PathBuf::from(format!("{stem}.artifacts"));
        let folder = path.parent().unwrap_or(Path::new(""));
        if !artifacts.is_empty() {
            let folder = folder.join(&below);
            std::fs::create_dir_all(&folder).map_err(unwritable(&folder))?;
        }
        // Numbers, not names: a name need not be a good name of a file.
        for (number, place) in artifacts.values_mut().enumerate() {
            let bytes = std::fs::read(&*place)
                .map_err(|source| RecordedError::Read { path: place.clone(), source })?;
            *place = below.join(format!("{number}.bin"));
            let copy = folder.join(&*place);
            std::fs::write(&copy, bytes).map_err(unwritable(&copy))?;
        }
        let text = serde_json::to_vec_pretty(&moved)
            .map_err(|source| RecordedError::Form { path: path.to_owned(), source })?;
        std::fs::write(path, text).map_err(unwritable(path))
    }
}

/// Whether a relative path stays below where it starts.
fn is_below(path: &Path) -> bool {
    path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_core::Probe;

    fn recorded() -> Recorded {
        let mut evaluation = Evaluation::accepted("loss", 1.0 / 3.0);
        evaluation.telemetry.series.insert("dev_loss".into(), vec![(0, 5.5), (8, 0.1)]);
        evaluation.evidence.probes.push(Probe::new("causality", 4, 0).with("cuts", 9.0));
        evaluation.evidence.ledger.insert("tokens".into(), 512);
        Recorded {
            environment: "nanogpt".into(),
            track: "cpu".into(),
            program: Program::single("main.rs", "fn main() {}"),
            parent: Some(Program::single("main.rs", "")),
            seed: u64::MAX,
            slice: Slice::Val,
            evaluation,
        }
    }

    #[test]
    fn what_is_written_is_read_again_wherever_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let (here, there) = (folder.path().join("here"), folder.path().join("there"));
        std::fs::create_dir(&here).expect("made");
        let artifact = folder.path().join("artifact");
        std::fs::write(&artifact, b"\0\xff").expect("written");
        let mut recorded = recorded();
        let artifacts = &mut recorded.evaluation.evidence.artifacts;
        artifacts.insert("../odd name".into(), artifact);
        recorded.write(&here.join("a.json")).expect("written");
        std::fs::rename(&here, &there).expect("moved");
        let read = Recorded::read(&there.join("a.json")).expect("own file");
        let place = &read.evaluation.evidence.artifacts["../odd name"];
        assert_eq!(std::fs::read(place).expect("moved with it"), b"\0\xff");
        assert!(place.starts_with(&there));
        let place = place.clone();
        recorded.evaluation.evidence.artifacts.insert("../odd name".into(), place);
        assert_eq!(read, recorded);
    }

    #[test]
    fn artifacts_elsewhere_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.json");
        for place in ["/etc/passwd", "../secret", "a/../../b"] {
            let mut recorded = recorded();
            recorded.evaluation.evidence.artifacts.insert("x".into(), place.into());
            std::fs::write(&file, serde_json::to_vec(&recorded).expect("plain data"))
                .expect("written");
            let error = Recorded::read(&file).expect_err("a path that leads out");
            assert!(matches!(error, RecordedError::Outside { .. }), "{error}");
        }
    }

    #[test]
    fn other_files_are_refused_with_a_hint() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.json");
        let error = Recorded::read(&file).expect_err("not there").to_string();
        assert!(error.starts_with("cannot read ") && error.contains("\nhint: "), "{error}");
        for text in ["", "{}", "[1]", "no JSON"] {
            std::fs::write(&file, text).expect("written");
            let error = Recorded::read(&file).expect_err(text).to_string();
            assert!(error.contains("is not recorded evidence"), "{error}");
        }
    }
}
