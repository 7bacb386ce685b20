//! A core module and the hook interface make a component.

use sha2::{Digest, Sha256};
use std::fmt::Display;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata, metadata};
use wit_parser::Resolve;

/// The hook interface that this version writes into new hooks.
pub const WIT: &str = include_str!("../../../wit/since_v0.1.0/verify.wit");

/// The world of a hook in [`WIT`].
const WORLD: &str = "hook";

/// Why a module cannot become a hook.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The bytes are not a WebAssembly module, or one with broken descriptions of interfaces.
    #[error("this is no WebAssembly module that could become a hook: {0}")]
    Module(String),
    /// The module's exports and imports are not those of a hook.
    #[error(
        "the module does not fit the hook interface: {0}\nhint: a hook exports `describe`, `verify`, \
         `memory` and `cabi_realloc`, and imports nothing but `forerunner:verify/evidence@0.1.0`"
    )]
    Interface(String),
}

/// Makes a component of a core module. A module that does not say which interface it has (one
/// compiled from C) is taken for a hook of [`WIT`].
///
/// Equal modules make equal components.
///
/// # Errors
/// When the bytes are not a module, or the module does not fit the interface.
pub fn encode(module: &[u8]) -> Result<Vec<u8>, ComponentError> {
    let (described, _) = metadata::decode(module).map_err(text_of(ComponentError::Module))?;
    let mut module = module.to_vec();
    if described.is_none() {
        let mut resolve = Resolve::default();
        let wrong = text_of(ComponentError::Interface);
        let package = resolve.push_str("verify.wit", WIT).map_err(wrong)?;
        let world = resolve.select_world(&[package], Some(WORLD)).map_err(wrong)?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .map_err(wrong)?;
    }
    ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(text_of(ComponentError::Interface))
}

/// An error with its causes, in one line.
fn text_of<E: Display>(kind: fn(String) -> ComponentError) -> impl Fn(E) -> ComponentError + Copy {
    move |error| kind(format!("{error:#}").replace('\n', " "))
}

/// SHA-256 in hex: the identity of a hook.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), empty);
    }

    #[test]
    fn what_is_no_module_is_refused() {
        for bytes in [&b""[..], b"no module", b"\0asm\x01\0\0\0\xff"] {
            assert!(matches!(encode(bytes), Err(ComponentError::Module(_))), "{bytes:?}");
        }
    }

    #[test]
    fn a_module_without_the_exports_of_a_hook_is_refused() {
        // The eight bytes of a module without any section.
        let Err(error) = encode(b"\0asm\x01\0\0\0") else { panic!("nothing exports nothing") };
        assert!(matches!(error, ComponentError::Interface(_)), "{error}");
        assert!(error.to_string().contains("hint: "), "{error}");
    }
}
