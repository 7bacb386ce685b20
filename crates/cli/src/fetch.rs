//! `forerunner data fetch`.

use crate::{data, failure::Failure, paths};
use clap::Args;
use forerunner_core::{DataReport, DataRequest, DataSource};
use forerunner_fetch::{Event, Fetched, FetchedFile, Patience};
use forerunner_report::terminal::{Look, Stream, Transfer};
use serde::Serialize;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

const EXAMPLES: &str = "\
Examples:
  forerunner data fetch fineweb10B                      8 shards and the held-out one: 1.8 GB
  forerunner data fetch fineweb10B --shards 103         all of it: 20.8 GB
  forerunner data fetch fineweb10B --folder /data/web
  HF_ENDPOINT=https://mirror.example forerunner data fetch fineweb10B

With --folder, point a run at it: --set environment.config.data=/data/web

The files come from the Hugging Face hub, or from the mirror in HF_ENDPOINT, into DIR/shards, each
with its SHA-256 beside it; the data set is made in DIR and reads them where they lie. Whatever ends
a fetch, the same command goes on where it stopped; files that are whole are checked and not fetched
again, without a network too.

--json prints one object: name, repository, commit (null when nothing came from the hub), folder,
bytes, received, files[] {file, bytes, tokens, sha256, received}, data {folder, fingerprint} or null.";

/// Fetch a published data set and make it ready for use.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Fetch {
    /// The data set; there is `fineweb10B`: the FineWeb sample of the NanoGPT speedrun in GPT-2
    /// tokens, 103 shards of 100 million tokens.
    name: String,
    /// Number of shards to train on [default: 8].
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// Folder of the data set [default: share/forerunner/data/NAME of the installation, where tracks
    /// look for it; without an installation data/NAME].
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Fetch only; make no data set.
    #[arg(long)]
    no_prepare: bool,
    /// Print one JSON object on standard output; progress goes to standard error.
    #[arg(long)]
    json: bool,
}

pub(crate) fn fetch(arguments: Fetch, plugins: &[PathBuf]) -> Result<ExitCode, Failure> {
    let source = forerunner_fetch::source(&arguments.name)?;
    let shards = arguments.shards.unwrap_or(source.default_shards);
    let folder = arguments.folder.clone().unwrap_or_else(|| default_folder(source.name));
    let files = folder.join("shards");
    let request = forerunner_fetch::Fetch { source, shards, folder: files.clone(), endpoint: None };
    let stop = watch_signals()?;
    let mut output = Output::new(arguments.json, source.files(shards)?.len());
    output.transfer.line(&format!(
        "{}: {shards} of {} shards to train on and the held-out one, about {:.1} GB, into {}",
        source.name,
        source.most_shards,
        source.bytes(shards) as f64 / 1e9,
        files.display()
    ))?;
    let fetched = forerunner_fetch::fetch(&request, Patience::default(), &stop, &mut |event| {
        output.event(event);
    })?;
    // From here on there is nothing to finish first: Ctrl-C ends the command at once.
    stop.store(true, Ordering::Relaxed);
    let data = if arguments.no_prepare {
        None
    } else {
        output.transfer.line("making the data set of them")?;
        let path = |file: &FetchedFile| files.join(&file.file);
        let (val, train) = fetched.files.split_at(1);
        let request = DataRequest {
            source: DataSource::Shards {
                train: train.iter().map(path).collect(),
                val: val.iter().map(path).collect(),
            },
            name: source.name.to_owned(),
            out: folder.clone(),
        };
        Some(data::made(&request, source.environment, plugins)?)
    };
    output.transfer.clear()?;
    drop(output);
    if arguments.json {
        let answer = Answer::new(source, &fetched, &folder, data.as_ref());
        writeln!(io::stdout(), "{}", forerunner_report::to_json(&answer)?)?;
    } else if let Some(data) = data {
        let mut out = io::stdout();
        for line in &data.lines {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "{}  {}", folder.display(), data.fingerprint)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where tracks look for the data set, or a folder below this one.
fn default_folder(name: &str) -> PathBuf {
    match paths::prefix() {
        Some(prefix) => prefix.join("share/forerunner/data").join(name),
        None => Path::new("data").join(name),
    }
}

/// First Ctrl-C (or SIGTERM): stop and keep what came. Second, or the first after the answer was set
/// by ourselves: end at once.
fn watch_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Where events go.
struct Output {
    transfer: Transfer<Box<dyn Write>>,
    begun: Instant,
}

impl Output {
    fn new(json: bool, n_files: usize) -> Self {
        let stream = if json { Stream::Stderr } else { Stream::Stdout };
        let out: Box<dyn Write> =
            if json { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
        let transfer = Transfer::new(out, Look::detect(stream), n_files);
        Self { transfer, begun: Instant::now() }
    }

    /// A closed pipe must not end a fetch: whoever reads is gone, the files are what counts.
    fn event(&mut self, event: Event) {
        let at = self.begun.elapsed().as_secs_f64();
        let transfer = &mut self.transfer;
        drop(match event {
            Event::Begun { file, bytes, here } => transfer.begin(at, &file, bytes, here),
            Event::Received { here } => transfer.received(at, here),
            Event::Checking { .. } => Ok(()),
            Event::Damaged { file } => {
                transfer.line(&format!("{file}: damaged on the disk, fetched again"))
            }
            Event::Waiting { file, reason, pause } => {
                let seconds = pause.as_secs_f64();
                transfer.line(&format!("{file}: {reason}; again in {seconds:.0} s"))
            }
            Event::Done(FetchedFile { file, sha256, received, .. }) => {
                let what = if received > 0 { "fetched" } else { "was here" };
                transfer.end(&file, &format!("{what}, sha256 {}", &sha256[..16]))
            }
        });
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    name: &'a str,
    repository: &'a str,
    commit: Option<&'a str>,
    folder: &'a Path,
    bytes: u64,
    received: u64,
    files: &'a [FetchedFile],
    data: Option<Made<'a>>,
}

#[derive(Serialize)]
struct Made<'a> {
    folder: &'a Path,
    fingerprint: &'a str,
}

impl<'a> Answer<'a> {
    fn new(
        source: &'a forerunner_fetch::Source,
        fetched: &'a Fetched,
        folder: &'a Path,
        data: Option<&'a DataReport>,
    ) -> Self {
        Self {
            name: source.name,
            repository: source.repository,
            commit: fetched.commit.as_deref(),
            folder,
            bytes: fetched.files.iter().map(|file| file.bytes).sum(),
            received: fetched.files.iter().map(|file| file.received).sum(),
            files: &fetched.files,
            data: data.map(|data| Made { folder, fingerprint: &data.fingerprint }),
        }
    }
}
