//! Verification hooks for tests, assembled from WebAssembly text: no toolchain is needed.

use forerunner_hook_tools::encode;
use std::fmt::Write;

/// Where static data begins. Below it, at [`ANSWER`], a host call puts its answer.
const DATA: usize = 4096;
const ANSWER: usize = 64;

/// A hook in the making. It grows no memory and keeps nothing: a call that returns is its last.
pub struct Hook {
    name: &'static str,
    version: &'static str,
    wants_parent: bool,
    data: Vec<u8>,
}

impl Hook {
    /// A hook that wants to see nothing.
    pub fn new(name: &'static str) -> Self {
        Self { name, version: "0.1.0", wants_parent: false, data: Vec::new() }
    }

    /// The same in another version.
    #[must_use]
    pub fn version(self, version: &'static str) -> Self {
        Self { version, ..self }
    }

    /// The same that wants to see the difference to the parent.
    #[must_use]
    pub fn wants_parent(self) -> Self {
        Self { wants_parent: true, ..self }
    }

    /// A component that accepts everything with a note.
    pub fn accepting(mut self) -> Vec<u8> {
        let report = self.report(0, 0, "all is well");
        self.component(&format!("(i32.const {report})"))
    }

    /// A component that rejects whatever differs from its parent, and accepts the reference, which
    /// has none. To be made of a hook that wants to see the parent.
    pub fn rejecting_changes(mut self) -> Vec<u8> {
        let accept = self.report(0, 0, "nothing was changed");
        let reject = self.report(1, 2, "it was changed; leave it as it is");
        // A diff that is denied, or not empty, is in the words of the answer.
        self.component(&format!(
            "(call $parent-diff (i32.const {ANSWER}))
             (select (i32.const {reject}) (i32.const {accept})
                 (i32.or (i32.load8_u (i32.const {ANSWER})) (i32.load offset=8 (i32.const {ANSWER}))))"
        ))
    }

    /// A component that never returns.
    pub fn endless(self) -> Vec<u8> {
        self.component("(loop $again (br $again)) (unreachable)")
    }

    /// Places bytes and answers their address.
    fn place(&mut self, bytes: &[u8]) -> usize {
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        let address = DATA + self.data.len();
        self.data.extend_from_slice(bytes);
        address
    }

    fn text(&mut self, text: &str) -> [usize; 2] {
        [self.place(text.as_bytes()), text.len()]
    }

    /// Places a report with one finding, as the canonical ABI lays it out.
    fn report(&mut self, verdict: usize, severity: usize, message: &str) -> usize {
        let (rule, message) = (self.text("judgement"), self.text(message));
        let mut finding = words(&[rule[0], rule[1], severity, message[0], message[1]]);
        // No place.
        finding.resize(56, 0);
        let finding = self.place(&finding);
        self.place(&words(&[0, verdict, finding, 1, 8, 0]))
    }

    fn component(mut self, verify: &str) -> Vec<u8> {
        const PARENT: u8 = 1;
        let wants: &[u8] = if self.wants_parent { &[PARENT] } else { &[] };
        let (name, version) = (self.text(self.name), self.text(self.version));
        let wants = [self.place(wants), wants.len()];
        let manifest = self.place(&words(&[name, version, wants].concat()));
        let import = if self.wants_parent {
            "(import \"forerunner:verify/evidence@0.1.0\" \"parent-diff\"
                 (func $parent-diff (param i32)))"
        } else {
            ""
        };
        let data = self.data.iter().fold(String::new(), |mut text, byte| {
            write!(text, "\\{byte:02x}").expect("a string takes everything");
            text
        });
        // What the host passes in goes to the second page, over what it passed in before.
        let module = format!(
            "(module {import}
                (memory (export \"memory\") 2) (data (i32.const {DATA}) \"{data}\")
                (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
                    (i32.const 65536))
                (func (export \"describe\") (result i32) (i32.const {manifest}))
                (func (export \"verify\")
                    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {verify}))"
        );
        encode(&wat::parse_str(module).expect("assembles")).expect("is a hook")
    }
}

fn words(words: &[usize]) -> Vec<u8> {
    let little = |word: &usize| u32::try_from(*word).expect("little data").to_le_bytes();
    words.iter().flat_map(little).collect()
}
