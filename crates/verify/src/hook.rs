//! A loaded hook, and one call of it.

use crate::{
    Call, HookError, Manifest, Report, Subject, Usage,
    error::Label,
    evidence::{Evidence, Unreadable},
    gate::epochs,
    host::Inner,
    report::{MAX_MESSAGE_BYTES, judge},
    since_v0_1_0::Adapter,
    state::{Overrun, State},
    text::clean,
};
use forerunner_core::Permission;
use std::{collections::BTreeSet, sync::Arc, time::Instant};
use wasmtime::{Store, Trap};

/// A hook that has been loaded and has described itself. Any number of threads can call it.
pub struct Hook {
    host: Arc<Inner>,
    adapter: Adapter,
    digest: String,
    manifest: Manifest,
    label: Label,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hook")
            .field("manifest", &self.manifest)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Hook {
    /// Asks a component who it is.
    pub(crate) fn describe(
        host: Arc<Inner>,
        adapter: Adapter,
        digest: String,
        label: Label,
    ) -> Result<Self, HookError> {
        let session = Session { host: &host, label: &label, call: Call::Describe };
        let call = |store: &mut Store<State>| adapter.describe(store);
        let ((name, version, wants), ..) = session.run(Evidence::default(), call)?;
        let manifest = Manifest::checked(&name, &version, wants)
            .map_err(|problem| HookError::Manifest { hook: label, problem })?;
        let label = Label { name, version: Some(version) };
        Ok(Self { host, adapter, digest, manifest, label })
    }

    /// What the hook says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the component's file, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The hook in messages.
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// Has the hook judge one evaluation, in a fresh instance that is gone afterwards.
    ///
    /// `permitted` is what the environment grants and the operator allows; the hook gets what it
    /// wants of it.
    ///
    /// # Errors
    /// [`HookError::NotPermitted`] when it wants more, before it runs;
    /// [`HookError::Declined`] when it says that it could not do its work;
    /// [`HookError::Evidence`] when an artifact cannot be read; else its misbehaviour. Whatever
    /// the error, nothing is known about the evaluation, which is to count as unverified.
    pub fn verify(
        &self,
        subject: &Subject<'_>,
        permitted: &BTreeSet<Permission>,
    ) -> Result<Report, HookError> {
        let wants = &self.manifest.wants;
        let missing: Vec<Permission> = wants.difference(permitted).copied().collect();
        if !missing.is_empty() {
            return Err(HookError::NotPermitted { hook: self.label.clone(), missing });
        }
        let session = Session { host: &self.host, label: &self.label, call: Call::Verify };
        let call = |store: &mut Store<State>| self.adapter.verify(store, subject);
        let evidence = Evidence::of(subject, wants, self.host.take_room());
        let (answer, State { evidence, log, .. }, usage) = session.run(evidence, call)?;
        self.host.give_room(evidence.into_points());
        let raw = answer.map_err(|message| HookError::Declined {
            hook: self.label.clone(),
            message: clean(&message, MAX_MESSAGE_BYTES),
        })?;
        let report = judge(raw, &self.manifest)
            .map_err(|problem| HookError::Report { hook: self.label.clone(), problem })?;
        Ok(Report { log, usage, ..report })
    }
}

/// One call of one hook.
struct Session<'a> {
    host: &'a Inner,
    label: &'a Label,
    call: Call,
}

impl Session<'_> {
    fn run<T>(
        &self,
        evidence: Evidence,
        call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<(T, State, Usage), HookError> {
        let limits = &self.host.limits;
        let _pass = self.host.gate.enter();
        let start = Instant::now();
        let mut store = Store::new(&self.host.engine, State::new(*limits, evidence));
        store.limiter(|state| state);
        store.set_epoch_deadline(epochs(limits.deadline));
        store.set_hostcall_fuel(limits.hostcall_bytes);
        store
            .set_fuel(limits.fuel)
            .map_err(|error| HookError::Host { reason: format!("{error:#}") })?;
        let answer = call(&mut store).map_err(|error| self.explain(&error))?;
        let fuel = limits.fuel.saturating_sub(store.get_fuel().unwrap_or(0));
        let state = store.into_data();
        let usage = Usage {
            fuel,
            memory_bytes: state.peak_memory as u64,
            host_calls: state.n_host_calls,
            seconds: start.elapsed().as_secs_f64(),
            dropped_log_lines: state.n_dropped_lines,
        };
        Ok((answer, state, usage))
    }

    /// What an error of the engine means.
    fn explain(&self, error: &wasmtime::Error) -> HookError {
        let (hook, call, limits) = (self.label.clone(), self.call, &self.host.limits);
        if let Some(overrun) = error.downcast_ref::<Overrun>() {
            return match overrun {
                Overrun::Memory(bytes) => HookError::Memory {
                    hook,
                    wanted: format!("{bytes} bytes of memory"),
                    limit: format!("{} bytes", limits.memory_bytes),
                },
                Overrun::Table(elements) => HookError::Memory {
                    hook,
                    wanted: format!("{elements} table elements"),
                    limit: limits.table_elements.to_string(),
                },
                Overrun::Calls => HookError::TooManyCalls { hook, call, limit: limits.host_calls },
            };
        }
        if let Some(Unreadable { name, source }) = error.downcast_ref::<Unreadable>() {
            let reason = source.to_string();
            return HookError::Evidence { hook, artifact: name.clone(), reason };
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => HookError::OutOfFuel { hook, call, limit: limits.fuel },
            Some(Trap::Interrupt) => {
                HookError::Deadline { hook, call, seconds: limits.deadline.as_secs_f64() }
            }
            Some(
                trap @ (Trap::ListOutOfBounds
                | Trap::StringOutOfBounds
                | Trap::InvalidDiscriminant
                | Trap::InvalidChar
                | Trap::UnalignedPointer),
            ) => HookError::InvalidValue { hook, call, reason: trap.to_string() },
            Some(trap) => {
                let trap = trap.to_string();
                let trap = trap.strip_prefix("wasm trap: ").unwrap_or(&trap).to_owned();
                HookError::Trapped { hook, call, trap }
            }
            None => {
                let reason = clean(&format!("{error:#}"), MAX_MESSAGE_BYTES);
                // The engine's error has no public type; a test holds its words.
                if reason.contains("fuel allocated for hostcalls has been exhausted") {
                    return HookError::TooMuchData { hook, call, limit: limits.hostcall_bytes };
                }
                HookError::InvalidValue { hook, call, reason }
            }
        }
    }
}
