//! The FFI-safe surface between host and plugins. Everything that is not named here is serde
//! bytes (JSON of the types in `forerunner-core`).
//!
//! Internal: authors use `forerunner-sdk`, hosts use `forerunner-runtime`. This is the only
//! crate, with those two, that names `abi_stable`, and exchanging it must stay a day's work. The
//! version of this crate is the version of the interface: for `0.x` a minor bump breaks plugins.
#![doc(hidden)]
#![expect(unsafe_code, reason = "`#[sabi_trait]` expands to the vtables' unsafe functions")]
#![allow(non_local_definitions, reason = "`#[sabi_trait]` expands to impls inside a const")]

mod load;

pub use load::{LoadFailure, interface_version, load};

use abi_stable::{
    StableAbi,
    library::RootModule,
    package_version_strings, sabi_trait,
    sabi_types::{RRef, VersionStrings},
    std_types::{RArc, RBox, RResult, RSlice, RStr, RString, RVec},
};

/// A serde-encoded value.
pub type Bytes = RVec<u8>;
/// A serde-encoded value, or a serde-encoded `forerunner_core::Error`.
pub type Reply = RResult<Bytes, Bytes>;

/// The host's side of one call.
#[sabi_trait]
pub trait RawHost: Send + Sync {
    fn record(&self, series: RStr<'_>, step: u64, value: f64);
    fn progress(&self, fraction: f64, message: RStr<'_>);
    fn store(&self, name: RStr<'_>, bytes: RSlice<'_, u8>) -> Reply;
    fn cache_dir(&self) -> RString;
    fn cancelled(&self) -> bool;
    fn check(&self, program: RSlice<'_, u8>) -> Reply;
    fn recall(&self, call: RSlice<'_, u8>) -> Reply;
    fn remember(&self, call: RSlice<'_, u8>, answer: RSlice<'_, u8>) -> Reply;
    #[sabi(last_prefix_field)]
    fn spend(&self, cost: RSlice<'_, u8>);
}

/// Where a plugin's log records go.
#[sabi_trait]
pub trait RawSink: Send + Sync + Clone + 'static {
    /// Most detailed level wanted: 1 (error) to 5 (trace).
    fn max_level(&self) -> u8;
    #[sabi(last_prefix_field)]
    fn event(&self, level: u8, target: RStr<'_>, message: RStr<'_>, fields: RStr<'_>);
}

#[sabi_trait]
pub trait RawEnvironment: Send + Sync + 'static {
    fn spec(&self) -> Reply;
    fn check(&self, program: RSlice<'_, u8>, host: Host<'_>) -> Reply;
    fn evaluate(&self, request: RSlice<'_, u8>, host: Host<'_>) -> Reply;
    #[sabi(last_prefix_field)]
    fn prepare(&self, request: RSlice<'_, u8>, host: Host<'_>) -> Reply;
}

#[sabi_trait]
pub trait RawMutator: Send + Sync + 'static {
    fn propose(&self, request: RSlice<'_, u8>, host: Host<'_>) -> Reply;
    fn repair(&self, request: RSlice<'_, u8>, host: Host<'_>) -> Reply;
    #[sabi(last_prefix_field)]
    fn observe(&self, outcome: RSlice<'_, u8>) -> Reply;
}

#[sabi_trait]
pub trait RawSelector: Send + Sync + 'static {
    fn start(&self, task: RSlice<'_, u8>) -> Reply;
    fn insert(&self, standing: RSlice<'_, u8>) -> Reply;
    fn select(&self, request: RSlice<'_, u8>) -> Reply;
    #[sabi(last_prefix_field)]
    fn view(&self) -> Reply;
}

pub type Host<'a> = RawHost_TO<'a, RRef<'a, ()>>;
pub type Sink = RawSink_TO<RArc<()>>;
pub type Environment = RawEnvironment_TO<RBox<()>>;
pub type Mutator = RawMutator_TO<RBox<()>>;
pub type Selector = RawSelector_TO<RBox<()>>;

/// What an export can be made into.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Environment,
    Mutator,
    Selector,
}

/// One thing a plugin offers.
#[repr(C)]
#[derive(StableAbi, Debug, Clone)]
pub struct Export {
    pub kind: Kind,
    pub name: RString,
}

/// The root module of every plugin.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginRef)))]
#[sabi(missing_field(panic))]
pub struct Plugin {
    pub name: extern "C" fn() -> RString,
    pub version: extern "C" fn() -> RString,
    pub exports: extern "C" fn() -> RVec<Export>,
    pub connect: extern "C" fn(Sink),
    pub environment: extern "C" fn(RStr<'_>, RSlice<'_, u8>) -> RResult<Environment, Bytes>,
    pub mutator: extern "C" fn(RStr<'_>, RSlice<'_, u8>) -> RResult<Mutator, Bytes>,
    #[sabi(last_prefix_field)]
    pub selector: extern "C" fn(RStr<'_>, RSlice<'_, u8>) -> RResult<Selector, Bytes>,
}

impl RootModule for PluginRef {
    abi_stable::declare_root_module_statics! {PluginRef}
    const BASE_NAME: &'static str = "forerunner_plugin";
    const NAME: &'static str = "forerunner_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
