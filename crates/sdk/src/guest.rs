//! Plugin side of every call: decode, guard against panics, encode.

use crate::foreign::answer;
use abi_stable::{
    sabi_trait::prelude::TD_Opaque,
    std_types::{RResult, RSlice},
};
use forerunner_abi::{Bytes, Host as RawHost, Reply};
use forerunner_core::{
    Answer, Call, Check, Cost, Environment, Error, Host, Mutator, Program, Result, Selector,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Once,
};

thread_local! {
    static PANIC_PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs plugin code; a panic becomes an error instead of ending the host.
pub(crate) fn guard<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    // Every dynamic library has a panic hook of its own: this one notes the place instead of
    // writing to the host's terminal. In process it is the program's only hook, so it passes on
    // whatever does not come from a guarded call.
    static HOOK: Once = Once::new();
    thread_local! { static GUARDED: RefCell<bool> = const { RefCell::new(false) }; }
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if GUARDED.with(|guarded| *guarded.borrow()) {
                let place = info.location().map(|l| format!("{}:{}", l.file(), l.line()));
                PANIC_PLACE.with(|slot| *slot.borrow_mut() = place);
            } else {
                previous(info);
            }
        }));
    });
    let outer = GUARDED.with(|guarded| guarded.replace(true));
    let result = catch_unwind(AssertUnwindSafe(call));
    GUARDED.with(|guarded| guarded.replace(outer));
    result.unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without text".to_owned());
        let place = PANIC_PLACE.with(|slot| slot.borrow_mut().take());
        Err(Error::Panicked(match place {
            Some(place) => format!("{text} ({place})"),
            None => text,
        }))
    })
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    // Plain data without maps that have non-string keys: encoding cannot fail.
    serde_json::to_vec(value)
        .unwrap_or_else(|e| {
            format!("{{\"kind\":\"codec\",\"message\":{:?}}}", e.to_string()).into_bytes()
        })
        .into()
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Codec(error.to_string()))
}

pub(crate) fn reply<T: Serialize>(result: Result<T>) -> Reply {
    match result {
        Ok(value) => RResult::ROk(encode(&value)),
        Err(error) => RResult::RErr(encode(&error)),
    }
}

struct Shim<T: ?Sized>(Box<T>);
struct HostProxy<'a>(RawHost<'a>);

impl Host for HostProxy<'_> {
    fn record(&self, series: &str, step: u64, value: f64) {
        self.0.record(series.into(), step, value);
    }
    fn progress(&self, fraction: f64, message: &str) {
        self.0.progress(fraction, message.into());
    }
    fn store(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        answer(self.0.store(name.into(), bytes.into()))
    }
    fn cache_dir(&self) -> PathBuf {
        PathBuf::from(self.0.cache_dir().as_str())
    }
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
    fn check(&self, program: &Program) -> Result<Check> {
        answer(self.0.check(RSlice::from_slice(&encode(program))))
    }
    fn recall(&self, call: &Call) -> Result<Option<Answer>> {
        answer(self.0.recall(RSlice::from_slice(&encode(call))))
    }
    fn remember(&self, call: &Call, known: &Answer) -> Result<()> {
        let (call, known) = (encode(call), encode(known));
        answer(self.0.remember(RSlice::from_slice(&call), RSlice::from_slice(&known)))
    }
    fn spend(&self, cost: &Cost) {
        self.0.spend(RSlice::from_slice(&encode(cost)));
    }
}

impl forerunner_abi::RawEnvironment for Shim<dyn Environment> {
    fn spec(&self) -> Reply {
        reply(guard(|| self.0.spec()))
    }
    fn check(&self, program: RSlice<'_, u8>, host: RawHost<'_>) -> Reply {
        reply(guard(|| self.0.check(&decode(&program)?, &HostProxy(host))))
    }
    fn evaluate(&self, request: RSlice<'_, u8>, host: RawHost<'_>) -> Reply {
        reply(guard(|| Ok(self.0.evaluate(&decode(&request)?, &HostProxy(host))?.finite())))
    }
    fn prepare(&self, request: RSlice<'_, u8>, host: RawHost<'_>) -> Reply {
        reply(guard(|| self.0.prepare(&decode(&request)?, &HostProxy(host))))
    }
}

impl forerunner_abi::RawMutator for Shim<dyn Mutator> {
    fn propose(&self, request: RSlice<'_, u8>, host: RawHost<'_>) -> Reply {
        reply(guard(|| self.0.propose(&decode(&request)?, &HostProxy(host))))
    }
    fn repair(&self, request: RSlice<'_, u8>, host: RawHost<'_>) -> Reply {
        reply(guard(|| self.0.repair(&decode(&request)?, &HostProxy(host))))
    }
    fn observe(&self, outcome: RSlice<'_, u8>) -> Reply {
        reply(guard(|| self.0.observe(&decode(&outcome)?)))
    }
}

impl forerunner_abi::RawSelector for Shim<dyn Selector> {
    fn start(&self, task: RSlice<'_, u8>) -> Reply {
        reply(guard(|| self.0.start(&decode(&task)?)))
    }
    fn insert(&self, standing: RSlice<'_, u8>) -> Reply {
        reply(guard(|| self.0.insert(&decode(&standing)?)))
    }
    fn select(&self, request: RSlice<'_, u8>) -> Reply {
        reply(guard(|| self.0.select(&decode(&request)?)))
    }
    fn view(&self) -> Reply {
        reply(guard(|| self.0.view()))
    }
}

/// The FFI object of an environment.
pub(crate) fn environment_object(of: Box<dyn Environment>) -> forerunner_abi::Environment {
    forerunner_abi::RawEnvironment_TO::from_value(Shim(of), TD_Opaque)
}

/// The FFI object of a mutator.
pub(crate) fn mutator_object(of: Box<dyn Mutator>) -> forerunner_abi::Mutator {
    forerunner_abi::RawMutator_TO::from_value(Shim(of), TD_Opaque)
}

/// The FFI object of a selector.
pub(crate) fn selector_object(of: Box<dyn Selector>) -> forerunner_abi::Selector {
    forerunner_abi::RawSelector_TO::from_value(Shim(of), TD_Opaque)
}
