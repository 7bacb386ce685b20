//! Host side of every call: an FFI object is again an ordinary [`Environment`], [`Mutator`] or
//! [`Selector`].

use crate::guest::{decode, reply};
use abi_stable::{
    sabi_trait::prelude::TD_Opaque,
    sabi_types::RRef,
    std_types::{RResult, RSlice, RStr, RString},
};
use forerunner_abi::{RawHost, RawHost_TO, Reply};
use forerunner_core::{
    Check, DataReport, DataRequest, Environment, EnvironmentSpec, Error, Evaluation,
    EvaluationRequest, Host, Mutator, Outcome, Program, Proposal, ProposalRequest, RepairRequest,
    Result, Select, Selection, Selector, SelectorView, Standing,
};
use serde::{Serialize, de::DeserializeOwned};

/// Lends the host to a plugin for the length of one call.
struct Bridge<'a>(&'a dyn Host);

impl RawHost for Bridge<'_> {
    fn record(&self, series: RStr<'_>, step: u64, value: f64) {
        self.0.record(series.as_str(), step, value);
    }
    fn progress(&self, fraction: f64, message: RStr<'_>) {
        self.0.progress(fraction, message.as_str());
    }
    fn store(&self, name: RStr<'_>, bytes: RSlice<'_, u8>) -> Reply {
        reply(self.0.store(name.as_str(), bytes.as_slice()))
    }
    fn cache_dir(&self) -> RString {
        self.0.cache_dir().to_string_lossy().into_owned().into()
    }
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
    fn check(&self, program: RSlice<'_, u8>) -> Reply {
        reply(decode(&program).and_then(|program| self.0.check(&program)))
    }
    fn recall(&self, call: RSlice<'_, u8>) -> Reply {
        reply(decode(&call).and_then(|call| self.0.recall(&call)))
    }
    fn remember(&self, call: RSlice<'_, u8>, answer: RSlice<'_, u8>) -> Reply {
        reply(decode(&call).and_then(|call| self.0.remember(&call, &decode(&answer)?)))
    }
    fn spend(&self, cost: RSlice<'_, u8>) {
        // Our own encoding of plain numbers; what cannot be read was not spent.
        if let Ok(cost) = decode(&cost) {
            self.0.spend(&cost);
        }
    }
}

/// Decodes what the other side answered.
///
/// # Errors
/// The other side's error, or [`Error::Codec`] when its bytes make no sense.
pub fn answer<T: DeserializeOwned>(reply: Reply) -> Result<T> {
    let decode_error = |error: serde_json::Error| Error::Codec(error.to_string());
    match reply {
        RResult::ROk(bytes) => serde_json::from_slice(&bytes).map_err(decode_error),
        RResult::RErr(bytes) => Err(serde_json::from_slice(&bytes).map_err(decode_error)?),
    }
}

fn bytes<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Codec(error.to_string()))
}

/// An environment on the other side of the boundary.
pub struct ForeignEnvironment(pub forerunner_abi::Environment);

impl Environment for ForeignEnvironment {
    fn spec(&self) -> Result<EnvironmentSpec> {
        answer(self.0.spec())
    }
    fn check(&self, program: &Program, host: &dyn Host) -> Result<Check> {
        let bridge = Bridge(host);
        let host = RawHost_TO::from_ptr(RRef::new(&bridge), TD_Opaque);
        answer(self.0.check(bytes(program)?.as_slice().into(), host))
    }
    fn evaluate(&self, request: &EvaluationRequest, host: &dyn Host) -> Result<Evaluation> {
        let bridge = Bridge(host);
        let host = RawHost_TO::from_ptr(RRef::new(&bridge), TD_Opaque);
        answer(self.0.evaluate(bytes(request)?.as_slice().into(), host))
    }
    fn prepare(&self, request: &DataRequest, host: &dyn Host) -> Result<DataReport> {
        let bridge = Bridge(host);
        let host = RawHost_TO::from_ptr(RRef::new(&bridge), TD_Opaque);
        answer(self.0.prepare(bytes(request)?.as_slice().into(), host))
    }
}

/// A mutator on the other side of the boundary.
pub struct ForeignMutator(pub forerunner_abi::Mutator);

impl Mutator for ForeignMutator {
    fn propose(&self, request: &ProposalRequest, host: &dyn Host) -> Result<Proposal> {
        let bridge = Bridge(host);
        let host = RawHost_TO::from_ptr(RRef::new(&bridge), TD_Opaque);
        answer(self.0.propose(bytes(request)?.as_slice().into(), host))
    }
    fn repair(&self, request: &RepairRequest, host: &dyn Host) -> Result<Option<Proposal>> {
        let bridge = Bridge(host);
        let host = RawHost_TO::from_ptr(RRef::new(&bridge), TD_Opaque);
        answer(self.0.repair(bytes(request)?.as_slice().into(), host))
    }
    fn observe(&self, outcome: &Outcome) -> Result<()> {
        answer(self.0.observe(bytes(outcome)?.as_slice().into()))
    }
}

/// A selector on the other side of the boundary.
pub struct ForeignSelector(pub forerunner_abi::Selector);

impl Selector for ForeignSelector {
    fn start(&self, task: &EnvironmentSpec) -> Result<()> {
        answer(self.0.start(bytes(task)?.as_slice().into()))
    }
    fn insert(&self, standing: &Standing) -> Result<()> {
        answer(self.0.insert(bytes(standing)?.as_slice().into()))
    }
    fn select(&self, request: &Select) -> Result<Vec<Selection>> {
        answer(self.0.select(bytes(request)?.as_slice().into()))
    }
    fn view(&self) -> Result<SelectorView> {
        answer(self.0.view())
    }
}
