//! What a hook may look at during one call: a copy of what it was granted, and nothing else.

use crate::{Subject, diff};
use forerunner_core::{Permission, Probe};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Most points of a series in one host call.
pub const MAX_POINTS: u32 = 65_536;
/// Most bytes of an artifact in one host call.
pub const MAX_ARTIFACT_BYTES: u32 = 1_048_576;

/// Why evidence was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    NotGranted,
    NotFound,
    TooLarge,
}

/// An artifact that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("artifact `{name}`: {source}")]
pub(crate) struct Unreadable {
    pub(crate) name: String,
    pub(crate) source: io::Error,
}

/// The evidence of one call.
///
/// A store of the engine cannot borrow, so this is a copy; only what is granted is copied, and
/// artifacts stay in their files.
#[derive(Default)]
pub(crate) struct Evidence {
    granted: BTreeSet<Permission>,
    source: BTreeMap<String, String>,
    parent_diff: String,
    metrics: BTreeMap<String, f64>,
    ledger: BTreeMap<String, u64>,
    /// Where in `points` each series lies.
    series: BTreeMap<String, Range<usize>>,
    points: Points,
    probes: Vec<Probe>,
    artifacts: BTreeMap<String, PathBuf>,
}

/// Points of all series, one after the other: by far the most of what is copied.
pub(crate) type Points = Vec<(u64, f64)>;

impl Evidence {
    /// A copy of what is granted. `points` is room to reuse; what it contains is lost.
    pub(crate) fn of(
        subject: &Subject<'_>,
        granted: &BTreeSet<Permission>,
        mut points: Points,
    ) -> Self {
        points.clear();
        let evidence = &subject.evaluation.evidence;
        let mut out = Self { granted: granted.clone(), points, ..Self::default() };
        for permission in granted {
            match permission {
                Permission::Source => out.source = subject.program.files.clone(),
                Permission::Parent => {
                    let diff = |parent| diff::unified(parent, subject.program);
                    out.parent_diff = subject.parent.map(diff).unwrap_or_default();
                }
                Permission::Metrics => out.metrics = subject.evaluation.metrics.clone(),
                Permission::Ledger => out.ledger = evidence.ledger.clone(),
                Permission::Series => {
                    for (name, series) in &subject.evaluation.telemetry.series {
                        let start = out.points.len();
                        out.points.extend_from_slice(series);
                        out.series.insert(name.clone(), start..out.points.len());
                    }
                }
                Permission::Probes => out.probes = evidence.probes.clone(),
                Permission::Artifacts => out.artifacts = evidence.artifacts.clone(),
                // `Recompute` is about the report; what we do not know shows nothing.
                _ => {}
            }
        }
        out
    }

    /// The room that the points were in.
    pub(crate) fn into_points(self) -> Points {
        self.points
    }

    fn granted(&self, permission: Permission) -> Result<(), Denied> {
        self.granted.contains(&permission).then_some(()).ok_or(Denied::NotGranted)
    }

    pub(crate) fn source(&self) -> Result<&BTreeMap<String, String>, Denied> {
        self.granted(Permission::Source).map(|()| &self.source)
    }

    pub(crate) fn parent_diff(&self) -> Result<&str, Denied> {
        self.granted(Permission::Parent).map(|()| &*self.parent_diff)
    }

    pub(crate) fn metrics(&self) -> Result<&BTreeMap<String, f64>, Denied> {
        self.granted(Permission::Metrics).map(|()| &self.metrics)
    }

    pub(crate) fn ledger(&self) -> Result<&BTreeMap<String, u64>, Denied> {
        self.granted(Permission::Ledger).map(|()| &self.ledger)
    }

    pub(crate) fn probes(&self) -> Result<&[Probe], Denied> {
        self.granted(Permission::Probes).map(|()| &*self.probes)
    }

    /// Names and numbers of points.
    pub(crate) fn list_series(&self) -> Result<Vec<(String, u64)>, Denied> {
        self.granted(Permission::Series)?;
        Ok(self.series.iter().map(|(name, points)| (name.clone(), points.len() as u64)).collect())
    }

    /// Points `start..start + length`, as far as they exist.
    pub(crate) fn series(
        &self,
        name: &str,
        start: u64,
        length: u32,
    ) -> Result<&[(u64, f64)], Denied> {
        self.granted(Permission::Series)?;
        let points = &self.points[self.series.get(name).ok_or(Denied::NotFound)?.clone()];
        if length > MAX_POINTS {
            return Err(Denied::TooLarge);
        }
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(points.len());
        let end = start.saturating_add(length as usize).min(points.len());
        Ok(&points[start..end])
    }

    /// Names and sizes in bytes.
    pub(crate) fn list_artifacts(&self) -> Result<Result<Vec<(String, u64)>, Denied>, Unreadable> {
        if let Err(denied) = self.granted(Permission::Artifacts) {
            return Ok(Err(denied));
        }
        let size = |(name, path): (&String, &PathBuf)| match file_size(path) {
            Ok(size) => Ok((name.clone(), size)),
            Err(source) => Err(Unreadable { name: name.clone(), source }),
        };
        Ok(Ok(self.artifacts.iter().map(size).collect::<Result<_, _>>()?))
    }

    /// Bytes `offset..offset + length`, as far as they exist.
    pub(crate) fn artifact(
        &self,
        name: &str,
        offset: u64,
        length: u32,
    ) -> Result<Result<Vec<u8>, Denied>, Unreadable> {
        if let Err(denied) = self.granted(Permission::Artifacts) {
            return Ok(Err(denied));
        }
        let Some(path) = self.artifacts.get(name) else { return Ok(Err(Denied::NotFound)) };
        if length > MAX_ARTIFACT_BYTES {
            return Ok(Err(Denied::TooLarge));
        }
        let read = read_range(path, offset, length);
        read.map(Ok).map_err(|source| Unreadable { name: name.to_owned(), source })
    }
}

/// Size of a regular file. Whatever else a path leads to could block, or lead elsewhere.
fn file_size(path: &Path) -> io::Result<u64> {
    let metadata = path.symlink_metadata()?;
    if metadata.is_file() {
        Ok(metadata.len())
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

fn read_range(path: &Path, offset: u64, length: u32) -> io::Result<Vec<u8>> {
    let left = file_size(path)?.saturating_sub(offset);
    let length = usize::try_from(left.min(u64::from(length))).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    let mut n_read = 0;
    let file = File::open(path)?;
    while n_read < length {
        match file.read_at(&mut bytes[n_read..], offset + n_read as u64) {
            Ok(0) => break,
            Ok(n) => n_read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(n_read);
    Ok(bytes)
}
