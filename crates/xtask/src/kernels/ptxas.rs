//! Reading what `ptxas -v` says about functions.

use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// What a function uses.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// A thread's registers. Functions that kernels call have none of their own.
    pub(super) registers: Option<u32>,
    /// Bytes a thread, of the function itself.
    pub(super) stack: u32,
    /// Bytes a thread.
    pub(super) spill_stores: u32,
    /// Bytes a thread.
    pub(super) spill_loads: u32,
    /// Bytes a block, without what a launch asks for.
    pub(super) shared: u32,
}

/// Functions by name.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Usage>> {
    let mut found = BTreeMap::<String, Usage>::new();
    // The kernel that is compiled, and the function that the next line of properties belongs to.
    let (mut kernel, mut function) = (None, None);
    for line in text.lines() {
        let wrong = || format!("cannot read what ptxas says: {line}");
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let name = rest.split('\'').next().with_context(wrong)?;
            kernel = Some(name.to_owned());
        } else if let Some((_, name)) = line.split_once("Function properties for ") {
            function = Some(name.trim().to_owned());
        } else if line.contains(" bytes stack frame") {
            let usage = found.entry(function.take().with_context(wrong)?).or_default();
            usage.stack = before(line, " bytes stack frame").with_context(wrong)?;
            usage.spill_stores = before(line, " bytes spill stores").with_context(wrong)?;
            usage.spill_loads = before(line, " bytes spill loads").with_context(wrong)?;
        } else if line.contains(": Used ") {
            let usage = found.entry(kernel.take().with_context(wrong)?).or_default();
            usage.registers = Some(before(line, " registers").with_context(wrong)?);
            // Not said by kernels that declare none.
            usage.shared = before(line, " bytes smem").unwrap_or(0);
        }
    }
    Ok(found)
}

/// The number that stands before `words`.
fn before(line: &str, words: &str) -> Option<u32> {
    let (head, _) = line.split_once(words)?;
    head.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAYS: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'tight' for 'sm_80'
ptxas info    : Function properties for tight
    11696 bytes stack frame, 17672 bytes spill stores, 24384 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers, 11696 bytes cumulative stack size, 368 bytes cmem[0]
ptxas info    : Compile time = 1882.791 ms
ptxas info    : Compiling entry function 'caller' for 'sm_80'
ptxas info    : Function properties for caller
    256 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 256 bytes cumulative stack size, 512 bytes smem, 364 bytes cmem[0]
ptxas info    : Compile time = 9.156 ms
ptxas info    : Function properties for helper
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
";

    #[test]
    fn kernels_and_what_they_call_are_read() {
        let found = parse(SAYS).unwrap();
        let check =
            |name: &str, registers, [stack, spill_stores, spill_loads, shared]: [u32; 4]| {
                let expected = Usage { registers, stack, spill_stores, spill_loads, shared };
                assert_eq!(found[name], expected, "{name}");
            };
        assert_eq!(found.len(), 3);
        check("tight", Some(32), [11696, 17672, 24384, 0]);
        check("caller", Some(40), [256, 0, 0, 512]);
        check("helper", None, [8, 4, 12, 0]);
    }

    #[test]
    fn on_newer_devices_constants_are_not_named() {
        let text = "ptxas info    : Compiling entry function 'add' for 'sm_90a'\n\
                    ptxas info    : Function properties for add\n    \
                    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
                    ptxas info    : Used 22 registers, used 0 barriers\n";
        assert_eq!(parse(text).unwrap()["add"].registers, Some(22));
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for text in [
            "ptxas info    : Used 22 registers",
            "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads",
            "ptxas info    : Function properties for a\n    0 bytes stack frame",
            "ptxas info    : Compiling entry function 'a' for 'sm_80'\nptxas info    : Used few registers",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("cannot read what ptxas says: "), "{error}");
        }
    }
}
