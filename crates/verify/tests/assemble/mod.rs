//! Assembles hooks from WebAssembly text, so that tests need no WebAssembly toolchain.
//!
//! A [`Guest`] is a core module in the making: static data that Rust lays out in the canonical ABI,
//! and the text of a few functions. Addresses are bytes of the guest's memory.

#![allow(dead_code, reason = "each test uses another part of it")]

use std::fmt::Write;

/// Where static data begins; below are scratch areas for return values.
const DATA: u32 = 4096;
/// A scratch area of 64 bytes for what a host call answers.
pub(crate) const ANSWER: u32 = 64;

pub(crate) const SOURCE: u8 = 0;
pub(crate) const PARENT: u8 = 1;
pub(crate) const METRICS: u8 = 2;
pub(crate) const LEDGER: u8 = 3;
pub(crate) const SERIES: u8 = 4;
pub(crate) const PROBES: u8 = 5;
pub(crate) const ARTIFACTS: u8 = 6;
pub(crate) const RECOMPUTE: u8 = 7;

pub(crate) const ACCEPT: u8 = 0;
pub(crate) const REJECT: u8 = 1;
pub(crate) const UNDECIDED: u8 = 2;

pub(crate) const NOTE: u8 = 0;
pub(crate) const ERROR: u8 = 2;

/// Every host function: name, and parameters of its core form.
const HOST_FUNCTIONS: &[(&str, &str)] = &[
    ("log", "i32 i32 i32"),
    ("source", "i32"),
    ("parent-diff", "i32"),
    ("metrics", "i32"),
    ("ledger", "i32"),
    ("list-series", "i32"),
    ("series", "i32 i32 i64 i32 i32"),
    ("steps", "i32 i32 i64 i32 i32"),
    ("values", "i32 i32 i64 i32 i32"),
    ("probes", "i32"),
    ("list-artifacts", "i32"),
    ("artifact", "i32 i32 i64 i32 i32"),
];

/// A hook in the making.
#[derive(Clone)]
pub(crate) struct Guest {
    name: Vec<u8>,
    version: Vec<u8>,
    wants: Vec<u8>,
    /// Host functions that the guest calls, as `$name`.
    pub(crate) imports: Vec<&'static str>,
    data: Vec<u8>,
    /// Pages of 64 KiB at the start.
    pub(crate) pages: u32,
    /// Further fields of the module.
    pub(crate) fields: String,
    /// Instructions of `describe` before it answers.
    pub(crate) describe: String,
    /// Instructions of `cabi_realloc`, with the parameters 0 to 3; the default never frees.
    pub(crate) realloc: String,
}

impl Guest {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            version: b"1.2.3".into(),
            wants: Vec::new(),
            imports: Vec::new(),
            data: Vec::new(),
            pages: 2,
            fields: String::new(),
            describe: String::new(),
            realloc: "(local i32)
                (local.set 4 (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
                (global.set $top (i32.add (local.get 4) (local.get 3)))
                (local.get 4)"
                .to_owned(),
        }
    }

    pub(crate) fn version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    pub(crate) fn wants(mut self, wants: &[u8]) -> Self {
        self.wants = wants.to_vec();
        self
    }

    /// Host functions that the guest calls, as `$name`.
    pub(crate) fn imports(mut self, names: &[&'static str]) -> Self {
        self.imports = names.to_vec();
        self
    }

    pub(crate) fn pages(mut self, pages: u32) -> Self {
        self.pages = pages;
        self
    }

    pub(crate) fn fields(mut self, fields: &str) -> Self {
        self.fields = fields.to_owned();
        self
    }

    /// Places bytes and answers their address.
    pub(crate) fn place(&mut self, bytes: &[u8]) -> u32 {
        while !self.data.len().is_multiple_of(8) {
            self.data.push(0);
        }
        let address = DATA + u32::try_from(self.data.len()).expect("little data");
        self.data.extend_from_slice(bytes);
        address
    }

    /// Places bytes and answers address and length as a list or string has them.
    pub(crate) fn list(&mut self, bytes: &[u8], len: usize) -> [u32; 2] {
        [self.place(bytes), u32::try_from(len).expect("short")]
    }

    pub(crate) fn text(&mut self, text: &[u8]) -> [u32; 2] {
        self.list(text, text.len())
    }

    /// A finding without a place; 56 bytes.
    pub(crate) fn finding(&mut self, rule: &[u8], severity: u8, message: &[u8]) -> Vec<u8> {
        let (rule, message) = (self.text(rule), self.text(message));
        finding(rule, severity, message)
    }

    /// A metric; 16 bytes, the value in the last eight.
    pub(crate) fn metric(&mut self, name: &[u8], value: f64) -> Vec<u8> {
        let mut bytes = words(&self.text(name));
        bytes.extend(value.to_le_bytes());
        bytes
    }

    /// Places a report and answers its address.
    pub(crate) fn report(&mut self, verdict: u8, findings: &[Vec<u8>], metrics: &[Vec<u8>]) -> u32 {
        let findings = self.list(&findings.concat(), findings.len());
        let metrics = self.list(&metrics.concat(), metrics.len());
        self.raw_report(verdict, findings, metrics)
    }

    /// The same with lists that may lie anywhere.
    pub(crate) fn raw_report(&mut self, verdict: u8, findings: [u32; 2], metrics: [u32; 2]) -> u32 {
        let mut bytes = words(&[0, u32::from(verdict)]);
        bytes.extend(words(&[findings, metrics].concat()));
        self.place(&bytes)
    }

    /// Places an answer that is an error, and answers its address.
    pub(crate) fn decline(&mut self, message: &[u8]) -> u32 {
        let [address, len] = self.text(message);
        self.place(&words(&[1, address, len, 0, 0, 0]))
    }

    /// A report of metrics that the guest fills in: its address, and those of the values.
    pub(crate) fn figures(&mut self, names: &[&str]) -> (u32, Vec<u32>) {
        let metrics: Vec<_> = names.iter().map(|name| self.metric(name.as_bytes(), 0.0)).collect();
        let [address, len] = self.list(&metrics.concat(), metrics.len());
        let values = (0..len).map(|index| address + 16 * index + 8).collect();
        (self.raw_report(ACCEPT, [8, 0], [address, len]), values)
    }

    /// The component, whose `verify` consists of `body`; it leaves the address of the answer.
    pub(crate) fn component(&self, body: &str) -> Vec<u8> {
        component(&self.module(body))
    }

    fn module(&self, body: &str) -> String {
        let mut guest = self.clone();
        let (name, version) = (guest.name.clone(), guest.version.clone());
        let mut manifest = [guest.text(&name), guest.text(&version)].concat();
        let wants = guest.wants.clone();
        manifest.extend(guest.text(&wants));
        let manifest = guest.place(&words(&manifest));
        let top = (DATA as usize + guest.data.len()).next_multiple_of(65_536);
        let mut module = "(module ".to_owned();
        for (name, parameters) in HOST_FUNCTIONS {
            if guest.imports.contains(name) {
                let import = format!(
                    "(import \"forerunner:verify/evidence@0.1.0\" \"{name}\" (func ${name} (param {parameters})))"
                );
                module.push_str(&import);
            }
        }
        let data: String = guest.data.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\{byte:02x}");
            text
        });
        let Self { pages, fields, describe, realloc, .. } = guest;
        let _ = write!(
            module,
            r#"(memory (export "memory") {pages}) (data (i32.const {DATA}) "{data}")
            (global $top (mut i32) (i32.const {top}))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
            (func (export "describe") (result i32) {describe} (i32.const {manifest}))
            (func $verify (export "verify")
                (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {body})
            {fields})"#
        );
        module
    }
}

/// A finding without a place, from addresses and lengths.
pub(crate) fn finding(rule: [u32; 2], severity: u8, message: [u32; 2]) -> Vec<u8> {
    let mut bytes = words(&[rule[0], rule[1], u32::from(severity), message[0], message[1]]);
    bytes.resize(56, 0);
    bytes
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Instructions that end with the answer at `address`.
pub(crate) fn answer(address: u32) -> String {
    format!("(i32.const {address})")
}

/// A component of the world `hook` from the text of a core module.
pub(crate) fn component(module: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module).unwrap_or_else(|error| panic!("{error}\n{module}"));
    let mut resolve = wit_parser::Resolve::default();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/since_v0.1.0");
    let (package, _) = resolve.push_path(folder).expect("the interface is valid");
    let world = resolve.select_world(&[package], Some("hook")).expect("the world is there");
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, encoding)
        .expect("the module takes metadata");
    wit_component::ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.validate(true).encode())
        .unwrap_or_else(|error| panic!("{error:#}"))
}
