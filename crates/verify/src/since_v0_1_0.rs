//! The interface `forerunner:verify@0.1.0`, converted to what this crate works with. No other
//! module knows it. A later version gets a module of its own beside this one.

use crate::{
    Level,
    evidence::{Denied, Unreadable},
    report::{Place, RawFinding, RawReport, RawVerdict},
    state::State,
    subject::slice_name,
};
use bindings::forerunner::verify::{evidence, types};
use forerunner_core::{Permission, Severity};
use std::collections::BTreeSet;
use wasmtime::{
    Engine, Store,
    component::{Component, HasSelf, Linker},
};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/since_v0.1.0",
        world: "hook",
        imports: { default: trappable },
    });
}

/// The version of the package.
pub(crate) const VERSION: &str = "0.1.0";

/// A hook that is linked and ready to be instantiated.
pub(crate) struct Adapter(bindings::HookPre<State>);

impl Adapter {
    /// Checks the component's types against the world.
    pub(crate) fn link(engine: &Engine, component: &Component) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        bindings::Hook::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        Ok(Self(bindings::HookPre::new(linker.instantiate_pre(component)?)?))
    }

    /// Name, version and wants, as the hook gives them.
    pub(crate) fn describe(
        &self,
        store: &mut Store<State>,
    ) -> wasmtime::Result<(String, String, BTreeSet<Permission>)> {
        let manifest = self.0.instantiate(&mut *store)?.call_describe(store)?;
        let wants = manifest.wants.into_iter().map(permission).collect();
        Ok((manifest.name, manifest.version, wants))
    }

    /// The report, or the hook's reason for not giving one.
    pub(crate) fn verify(
        &self,
        store: &mut Store<State>,
        subject: &crate::Subject<'_>,
    ) -> wasmtime::Result<Result<RawReport, String>> {
        let subject = types::Subject {
            environment: subject.environment.to_owned(),
            track: subject.track.to_owned(),
            program: subject.program.id().0,
            seed: subject.seed.to_string(),
            slice: slice_name(subject.slice).to_owned(),
        };
        let answer = self.0.instantiate(&mut *store)?.call_verify(store, &subject)?;
        Ok(answer.map(report))
    }
}

fn permission(permission: types::Permission) -> Permission {
    match permission {
        types::Permission::Source => Permission::Source,
        types::Permission::Parent => Permission::Parent,
        types::Permission::Metrics => Permission::Metrics,
        types::Permission::Ledger => Permission::Ledger,
        types::Permission::Series => Permission::Series,
        types::Permission::Probes => Permission::Probes,
        types::Permission::Artifacts => Permission::Artifacts,
        types::Permission::Recompute => Permission::Recompute,
    }
}

fn report(report: types::Report) -> RawReport {
    RawReport {
        verdict: match report.verdict {
            types::Verdict::Accept => RawVerdict::Accept,
            types::Verdict::Reject => RawVerdict::Reject,
            types::Verdict::Undecided => RawVerdict::Undecided,
        },
        findings: report.findings.into_iter().map(finding).collect(),
        metrics: report.metrics.into_iter().map(|metric| (metric.name, metric.value)).collect(),
    }
}

fn finding(finding: types::Finding) -> RawFinding {
    RawFinding {
        rule: finding.rule,
        severity: match finding.severity {
            types::Severity::Note => Severity::Note,
            types::Severity::Warning => Severity::Warning,
            types::Severity::Error => Severity::Error,
        },
        message: finding.message,
        place: finding.evidence.map(|reference| match reference {
            types::Reference::Line((path, line)) => Place::Line(path, line),
            types::Reference::Metric(name) => Place::Metric(name),
            types::Reference::Point((series, step)) => Place::Point(series, step),
            types::Reference::Probe(name) => Place::Probe(name),
            types::Reference::Artifact((name, byte)) => Place::Artifact(name, byte),
        }),
    }
}

impl From<Denied> for types::Denied {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NotGranted => Self::NotGranted,
            Denied::NotFound => Self::NotFound,
            Denied::TooLarge => Self::TooLarge,
        }
    }
}

/// An answer from evidence that is in memory.
type Answer<T> = wasmtime::Result<Result<T, types::Denied>>;

/// Counts the call, then converts what `look` finds.
fn answer<'a, T: 'a, U>(
    state: &'a mut State,
    look: impl FnOnce(&'a State) -> Result<T, Denied>,
    convert: impl FnOnce(T) -> U,
) -> Answer<U> {
    state.begin_host_call()?;
    Ok(look(state).map(convert).map_err(types::Denied::from))
}

/// The same for evidence that is in files.
fn read<T, U>(
    state: &mut State,
    look: impl FnOnce(&State) -> Result<Result<T, Denied>, Unreadable>,
    convert: impl FnOnce(T) -> U,
) -> Answer<U> {
    state.begin_host_call()?;
    Ok(look(state)?.map(convert).map_err(types::Denied::from))
}

fn metric(name: &str, value: f64) -> types::Metric {
    types::Metric { name: name.to_owned(), value }
}

fn items(items: Vec<(String, u64)>) -> Vec<types::Item> {
    items.into_iter().map(|(name, length)| types::Item { name, length }).collect()
}

impl types::Host for State {}

impl evidence::Host for State {
    fn log(&mut self, level: types::Level, message: String) -> wasmtime::Result<()> {
        self.begin_host_call()?;
        let level = match level {
            types::Level::Debug => Level::Debug,
            types::Level::Info => Level::Info,
            types::Level::Warning => Level::Warning,
            types::Level::Error => Level::Error,
        };
        self.keep_line(level, &message);
        Ok(())
    }

    fn source(&mut self) -> Answer<Vec<types::SourceFile>> {
        let file = |(path, text): (&String, &String)| types::SourceFile {
            path: path.clone(),
            text: text.clone(),
        };
        answer(self, |state| state.evidence.source(), |files| files.iter().map(file).collect())
    }

    fn parent_diff(&mut self) -> Answer<String> {
        answer(self, |state| state.evidence.parent_diff(), str::to_owned)
    }

    fn metrics(&mut self) -> Answer<Vec<types::Metric>> {
        let convert = |(name, value): (&String, &f64)| metric(name, *value);
        answer(self, |state| state.evidence.metrics(), |all| all.iter().map(convert).collect())
    }

    fn ledger(&mut self) -> Answer<Vec<types::Entry>> {
        let entry =
            |(name, count): (&String, &u64)| types::Entry { name: name.clone(), count: *count };
        answer(self, |state| state.evidence.ledger(), |all| all.iter().map(entry).collect())
    }

    fn list_series(&mut self) -> Answer<Vec<types::Item>> {
        answer(self, |state| state.evidence.list_series(), items)
    }

    fn series(&mut self, name: String, start: u64, length: u32) -> Answer<Vec<types::Sample>> {
        let sample = |&(step, value): &(u64, f64)| types::Sample { step, value };
        answer(
            self,
            |state| state.evidence.series(&name, start, length),
            |points| points.iter().map(sample).collect(),
        )
    }

    fn steps(&mut self, name: String, start: u64, length: u32) -> Answer<Vec<u64>> {
        answer(
            self,
            |state| state.evidence.series(&name, start, length),
            |points| points.iter().map(|(step, _)| *step).collect(),
        )
    }

    fn values(&mut self, name: String, start: u64, length: u32) -> Answer<Vec<f64>> {
        answer(
            self,
            |state| state.evidence.series(&name, start, length),
            |points| points.iter().map(|(_, value)| *value).collect(),
        )
    }

    fn probes(&mut self) -> Answer<Vec<types::Probe>> {
        let probe = |probe: &forerunner_core::Probe| types::Probe {
            name: probe.name.clone(),
            trials: probe.trials,
            failures: probe.failures,
            numbers: probe.numbers.iter().map(|(name, value)| metric(name, *value)).collect(),
        };
        answer(self, |state| state.evidence.probes(), |all| all.iter().map(probe).collect())
    }

    fn list_artifacts(&mut self) -> Answer<Vec<types::Item>> {
        read(self, |state| state.evidence.list_artifacts(), items)
    }

    fn artifact(&mut self, name: String, offset: u64, length: u32) -> Answer<Vec<u8>> {
        read(self, |state| state.evidence.artifact(&name, offset, length), |bytes| bytes)
    }
}
