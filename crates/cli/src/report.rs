//! `forerunner report`.

use crate::{
    arguments::Report,
    failure::{Failure, STORE},
    paths::latest_run,
};
use forerunner_report::html;
use forerunner_runtime::store::Store;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

pub(crate) fn report(arguments: &Report) -> Result<ExitCode, Failure> {
    let latest = || Failure::usage("there is no run in runs/\nhint: name the folder of a run");
    let run = arguments.run.clone().or_else(latest_run).ok_or_else(latest)?;
    let store = Store::read(&run)?;
    let path = arguments.out.clone().unwrap_or_else(|| beside(&run));
    write(&store, &path)?;
    writeln!(io::stdout(), "{}", path.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Where a run's report is unless somebody wants it elsewhere.
pub(crate) fn beside(run: &Path) -> PathBuf {
    run.join("report.html")
}

/// Writes the report of the run in `store` to `path`, completely or not at all.
pub(crate) fn write(store: &Store, path: &Path) -> Result<(), Failure> {
    let page = html::Report::read(store)?.page();
    replace(path, page.as_bytes()).map_err(|error| {
        let hint = "choose another file with `forerunner report RUN --out FILE`";
        Failure::new(STORE, format_args!("cannot write {}: {error}\nhint: {hint}", path.display()))
    })
}

/// Readers see the old file or the new one, never a part of either. A link is followed; a device or
/// a pipe is written to.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return fs::write(path, bytes);
    }
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = File::create(&beside)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // Whatever is left of it is of no use.
        drop(fs::remove_file(&beside));
    }
    written
}
