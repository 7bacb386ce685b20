//! Which kernels a compiled source holds, and what each takes: read from its PTX, the assembler's
//! own input, so that no launch hands a kernel fewer arguments than the driver will read.

use super::{Parameter, Signature};
use crate::{Error, Result};

/// Kernels of one source.
const MOST_KERNELS: usize = 16;

/// The kernels of a PTX text, in its order.
pub(crate) fn entries(ptx: &str) -> Result<Vec<Signature>> {
    if ptx.contains('\\') {
        // No compiler writes one, and assemblers differ in whether it ends a string or not.
        return refuse("inline assembly holds a backslash".into());
    }
    let ptx = without_comments(ptx);
    let mut found: Vec<Signature> = Vec::new();
    for (at, word) in ptx.match_indices(".entry") {
        let rest = &ptx[at + word.len()..];
        if !rest.starts_with(char::is_whitespace) {
            continue;
        }
        let rest = rest.trim_start();
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '%');
        let end = rest.find(|c: char| !is_of_name(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let parameters = match rest.trim_start().strip_prefix('(') {
            Some(list) => parameters(name, list.split(')').next().unwrap_or_default())?,
            None => Vec::new(),
        };
        if found.iter().any(|other| other.name() == name) {
            return refuse(format!("there are two kernels `{name}`"));
        }
        found.push(Signature::new(name, parameters));
    }
    match found.len() {
        0 => refuse(
            "the source holds no kernel\nhint: write `KERNEL(name, (…)) { … }`, or \
             `extern \"C\" __global__ void name(…)`"
                .into(),
        ),
        n if n > MOST_KERNELS => {
            refuse(format!("the source holds {n} kernels, more than {MOST_KERNELS}"))
        }
        _ => Ok(found),
    }
}

fn refuse<T>(reason: String) -> Result<T> {
    Err(Error::Custom { reason })
}

fn parameters(kernel: &str, list: &str) -> Result<Vec<Parameter>> {
    let declared = list.split(',').map(str::trim).filter(|one| !one.is_empty());
    let read = |(idx, one): (usize, &str)| {
        let type_ = one.split_whitespace().nth(1).unwrap_or_default();
        Ok(match type_ {
            // An array of bytes is a structure handed over by value.
            _ if one.contains('[') => return refuse(by_value(kernel, idx)),
            ".u64" | ".s64" | ".b64" => Parameter::Pointer,
            ".u32" | ".s32" => Parameter::Integer,
            ".f32" => Parameter::Float,
            ".b32" => Parameter::Word,
            _ => return refuse(by_value(kernel, idx)),
        })
    };
    declared.enumerate().map(read).collect()
}

fn by_value(kernel: &str, idx: usize) -> String {
    format!(
        "parameter {} of kernel `{kernel}` is neither a pointer nor a `uint32_t`, `int` or `float`",
        idx + 1
    )
}

/// Blanks in place of comments and of what strings hold, which inline assembly can bring in.
fn without_comments(ptx: &str) -> String {
    let mut plain = String::with_capacity(ptx.len());
    let mut rest = ptx;
    while let Some(at) = rest.find(['/', '"']) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = if rest.starts_with("//") {
            rest.find('\n')
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.find("*/").map(|end| end + 4)
        } else if let Some(string) = rest.strip_prefix('"') {
            string.find(['"', '\n']).map(|end| end + 2)
        } else {
            Some(1)
        };
        plain.push(' ');
        rest = end.map_or("", |end| &rest[end..]);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ptx: &str) -> Vec<(String, Vec<Parameter>)> {
        let of = |one: Signature| (one.name().to_owned(), one.parameters.clone());
        entries(ptx).unwrap().into_iter().map(of).collect()
    }

    #[test]
    fn kernels_are_found_with_what_they_take() {
        let ptx = "\t// .globl\taxpy\n.visible .entry axpy(\n\t.param .u64 .ptr .align 1 axpy_0,\n\
                   \t.param .u64 axpy_1,\n\t.param .u32 axpy_2,\n\t.param .f32 axpy_3\n)\n\
                   .maxntid 128, 1, 1\n{\n\tret;\n}\n.weak .entry _Z1fv()\n{\n}\n\
                   .visible .entry none\n{ .param .b32 a; }\n.visible .entry b(.param .b32 x){}";
        assert_eq!(
            found(ptx),
            [
                (
                    "axpy".to_owned(),
                    vec![
                        Parameter::Pointer,
                        Parameter::Pointer,
                        Parameter::Integer,
                        Parameter::Float
                    ]
                ),
                ("_Z1fv".to_owned(), vec![]),
                ("none".to_owned(), vec![]),
                ("b".to_owned(), vec![Parameter::Word]),
            ]
        );
    }

    #[test]
    fn no_comment_or_string_declares_a_kernel() {
        let real = ".visible .entry k(.param .u64 a, .param .u64 b) {}";
        for hiding in [
            "// .entry k(.param .u64 a)\n",
            "/* .entry k(.param .u64 a) */",
            ".file 1 \".entry k(.param .u64 a)\"\n",
            ".pragma \"/*\"; ",
            ".pragma \"//\"; ",
        ] {
            let ptx = format!("{hiding}{real}");
            let want = vec![Parameter::Pointer, Parameter::Pointer];
            assert_eq!(found(&ptx), [("k".to_owned(), want)], "{hiding}");
        }
    }

    #[test]
    fn other_kernels_are_refused() {
        let check = |ptx: &str, reason: &str| {
            let error = entries(ptx).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        };
        check(".func f() {}", "holds no kernel");
        check(r#".entry k() { .pragma "\""; }"#, "holds a backslash");
        check(".entry k(.param .u64 a, .param .f64 b)", "parameter 2 of kernel `k` is neither");
        check(".entry k(.param .align 4 .b8 a[12])", "parameter 1 of kernel `k` is neither");
        check(".entry k() {} .entry k(.param .u64 a) {}", "two kernels `k`");
        let many: String = (0..17).map(|n| format!(".entry k{n}() {{}}\n")).collect();
        check(&many, "17 kernels, more than 16");
    }
}
