//! The environment itself: configuration in, evaluations out.

use crate::{
    Alignment, Clock, Config, DataError, Dataset, Manifest, Part, Track,
    device::required,
    gpu::Session,
    measurement::Bench,
    prepare,
    process::with_sources,
    rules::rules,
    score::tokens_needed,
    spec::{REFERENCE, reference, spec},
    text::Disguise,
};
use forerunner_core::{
    Cause, Check, DataReport, DataRequest, Environment, EnvironmentSpec, Error, Evaluation,
    EvaluationRequest, Finding, Host, Program, Result, Severity,
};
use forerunner_workbench::{Built, Compiler, Harness};
use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// The NanoGPT speedrun on one track.
pub struct NanoGpt {
    config: Config,
    track: Track,
    source_rules: bool,
    dataset: Mutex<Option<Arc<Dataset>>>,
    compiler: Mutex<Option<(PathBuf, Arc<Compiler>)>>,
}

impl NanoGpt {
    /// The environment that `config` asks for. Data and harness are looked for when they are
    /// needed, so that data can be prepared before there is any.
    ///
    /// # Errors
    /// When the track is unknown or an override makes no sense.
    pub fn new(config: Config) -> Result<Self> {
        let track = Track::new(&config)?;
        Ok(Self {
            config,
            track,
            source_rules: true,
            dataset: Mutex::default(),
            compiler: Mutex::default(),
        })
    }

    /// The same without source rules, to test what stands behind them. No configuration leads here.
    #[doc(hidden)]
    #[must_use]
    pub fn without_source_rules(self) -> Self {
        Self { source_rules: false, ..self }
    }

    /// The track in use.
    pub fn track(&self) -> &Track {
        &self.track
    }

    fn dataset(&self) -> Result<Arc<Dataset>> {
        let mut kept = self.dataset.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dataset) = &*kept {
            return Ok(dataset.clone());
        }
        let dataset = Dataset::open(&self.config.data_dir(&self.track)?)?;
        let context = self.track.context;
        for part in [Part::Dev, Part::Val, Part::Vault] {
            dataset.require(part, tokens_needed(context, self.track.windows_of(part)))?;
        }
        dataset.require(Part::Train, context + 1)?;
        if self.track.stream == Alignment::Documents {
            dataset.require_documents(context)?;
        }
        Ok(kept.insert(Arc::new(dataset)).clone())
    }

    fn compiler(&self, host: &dyn Host) -> Result<Arc<Compiler>> {
        let cache = host.cache_dir().join("nanogpt");
        let mut kept = self.compiler.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((dir, compiler)) = &*kept
            && *dir == cache
        {
            return Ok(compiler.clone());
        }
        let harness = Harness::load(&self.config.harness_dir(self.track.device)?)
            .map_err(|error| Error::failed(with_sources(&error)))?;
        let compiler = Compiler::new(harness, &cache, self.config.unsafe_no_sandbox)
            .map_err(|error| Error::failed(with_sources(&error)))?;
        let compiler = Arc::new(compiler);
        *kept = Some((cache, compiler.clone()));
        Ok(compiler)
    }

    /// The GPU of a track that is measured on one, free of other programs of ours; with `alone`, of
    /// everybody else's too.
    fn gpu(&self, alone: bool, host: &dyn Host) -> Result<Option<Session>> {
        let gpu = required(&self.track, &self.config)?;
        gpu.map(|gpu| Session::open(&gpu, alone, host)).transpose()
    }

    /// The binary that calibrates the clock: always the reference in this crate, whatever the
    /// search starts from.
    fn metronome(&self, host: &dyn Host) -> Result<Option<PathBuf>> {
        if !matches!(self.track.clock, Clock::Calibrated | Clock::Wall) {
            return Ok(None);
        }
        match self.build(&Program::single("main.rs", REFERENCE), host)? {
            Ok(built) => Ok(Some(built.binary)),
            Err(Refusal { findings, .. }) => {
                let reasons: Vec<_> = findings.iter().map(|f| f.message.as_str()).collect();
                Err(Error::Failed(format!(
                    "the reference program, which calibrates the clock, cannot be built: {}\n\
                     hint: install again with `cargo xtask install`",
                    reasons.join("; ")
                )))
            }
        }
    }

    /// Rules and compilation: a binary, or why there is none.
    fn build(&self, program: &Program, host: &dyn Host) -> Result<Result<Built, Refusal>> {
        let findings =
            if self.source_rules { rules(&self.track).check(program) } else { Vec::new() };
        if findings.iter().any(|finding| finding.severity >= Severity::Error) {
            return Ok(Err(Refusal { cause: Cause::Rule, findings }));
        }
        match self.compiler(host)?.build(program) {
            Ok(built) => Ok(Ok(built)),
            Err(error) => {
                let (cause, findings) =
                    error.into_findings().map_err(|error| Error::failed(with_sources(&error)))?;
                Ok(Err(Refusal { cause, findings }))
            }
        }
    }
}

/// Why there is no binary.
struct Refusal {
    cause: Cause,
    findings: Vec<Finding>,
}

impl Environment for NanoGpt {
    fn spec(&self) -> Result<EnvironmentSpec> {
        // Before anything else is set up: a search that could measure nothing must not begin.
        required(&self.track, &self.config)?;
        let manifest = Manifest::read(&self.config.data_dir(&self.track)?)?;
        let reference = match &self.config.reference {
            None => reference(&self.track),
            Some(path) => fs::read_to_string(path).map_err(DataError::io("read", path))?,
        };
        Ok(spec(&self.track, &manifest, reference))
    }

    fn check(&self, program: &Program, host: &dyn Host) -> Result<Check> {
        let built = match self.build(program, host)? {
            Ok(built) => built,
            Err(Refusal { cause, findings }) => return Ok(Check::refused(cause, findings)),
        };
        let dataset = self.dataset()?;
        let gpu = self.gpu(false, host)?;
        let bench = Bench {
            track: &self.track,
            dataset: &dataset,
            binary: &built.binary,
            metronome: None,
            disguise: None,
            gpu,
            unsafe_no_sandbox: self.config.unsafe_no_sandbox,
            host,
        };
        Ok(match bench.smoke()? {
            None => Check::default(),
            Some((cause, finding)) => Check::refused(cause, vec![finding]),
        })
    }

    fn evaluate(&self, request: &EvaluationRequest, host: &dyn Host) -> Result<Evaluation> {
        // What is missing shows before anything is compiled.
        required(&self.track, &self.config)?;
        let dataset = self.dataset()?;
        let built = match self.build(&request.program, host)? {
            Ok(built) => built,
            Err(Refusal { cause, findings }) => {
                return Ok(Evaluation::refused(cause, findings));
            }
        };
        let metronome = self.metronome(host)?;
        let vocab = dataset.manifest().vocab;
        let disguise = request.disguise.map(|secret| Disguise::new(secret, vocab));
        let bench = Bench {
            track: &self.track,
            dataset: &dataset,
            binary: &built.binary,
            metronome: metronome.as_deref(),
            disguise: disguise.as_ref(),
            gpu: self.gpu(self.track.clock == Clock::Elapsed, host)?,
            unsafe_no_sandbox: self.config.unsafe_no_sandbox,
            host,
        };
        let mut evaluation = bench.measure(request)?;
        let compile = built.cpu.as_secs_f64();
        evaluation.telemetry.numbers.insert("compile_cpu_seconds".into(), compile);
        evaluation.telemetry.facts.insert("compile_sandbox".into(), built.layers.to_string());
        if self.config.unsafe_no_sandbox {
            evaluation.findings.push(Finding::warning(
                "sandbox/none",
                "measured without a sandbox: the program could read and change whatever the user \
                 can, this result proves nothing",
            ));
        }
        Ok(evaluation)
    }

    fn prepare(&self, request: &DataRequest, _host: &dyn Host) -> Result<DataReport> {
        Ok(prepare::run(request)?)
    }
}
