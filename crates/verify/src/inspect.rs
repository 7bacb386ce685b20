//! What a file is, before anything is compiled: WebAssembly, a component, of our world, and built
//! for a version of the interface that the host speaks.

use crate::{HookError, Limits, error::Label, since_v0_1_0, text::clean};
use std::collections::BTreeSet;
use wasmparser::{ComponentTypeRef, Parser, Payload, TypeBounds};
use wasmtime::Engine;

/// Every version of the interface that the host speaks.
const KNOWN: &[&str] = &[since_v0_1_0::VERSION];
const PACKAGE: &str = "forerunner:verify/";
/// What of the package a hook may import.
const INTERFACES: &[&str] = &["types", "evidence"];
const EXPORTS: &[&str] = &["describe", "verify"];
/// Most names in a message, and bytes of each.
const MAX_NAMES: usize = 10;
const MAX_NAME_BYTES: usize = 120;

/// Refuses what can be seen not to be a hook.
pub(crate) fn inspect(hook: &Label, bytes: &[u8], limits: &Limits) -> Result<(), HookError> {
    kind(hook, bytes)?;
    let outline = Outline::read(bytes).map_err(|error| HookError::NotCompiled {
        hook: hook.clone(),
        reason: clean(&error, 300),
    })?;
    interface(hook, &outline)?;
    if outline.memory_bytes > limits.memory_bytes as u64 {
        return Err(HookError::Memory {
            hook: hook.clone(),
            wanted: format!("{} bytes of memory from the start", outline.memory_bytes),
            limit: format!("{} bytes", limits.memory_bytes),
        });
    }
    Ok(())
}

fn kind(hook: &Label, bytes: &[u8]) -> Result<(), HookError> {
    if Parser::is_component(bytes) {
        return Ok(());
    }
    let hook = hook.clone();
    if Parser::is_core_wasm(bytes) {
        return Err(HookError::CoreModule { hook });
    }
    if Engine::detect_precompiled(bytes).is_some() {
        return Err(HookError::Precompiled { hook });
    }
    let reason = match bytes {
        [] => "it is empty",
        [0, b'a', b's', b'm', ..] => "it is of an unknown binary version",
        [0x7f, b'E', b'L', b'F', ..] => "it is native machine code",
        _ if std::str::from_utf8(&bytes[..bytes.len().min(64)]).is_ok() => "it is text",
        _ => "its first bytes are not those of a component",
    };
    Err(HookError::NotWasm { hook, reason: reason.to_owned() })
}

/// What a component says of itself on its outermost level, and how much memory its modules
/// declare.
#[derive(Default)]
struct Outline {
    imports: Vec<String>,
    exports: BTreeSet<String>,
    memory_bytes: u64,
}

impl Outline {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut outline = Self::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(|error| error.to_string())? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import.map_err(|error| error.to_string())?;
                        // The world's own names for types of `types`: they give nothing.
                        if matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_))) {
                            continue;
                        }
                        let name = import.name;
                        let suffix = name.version_suffix.unwrap_or_default();
                        outline.imports.push(format!("{}{suffix}", name.name));
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let name = export.map_err(|error| error.to_string())?.name.name;
                        outline.exports.insert(name.to_owned());
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        let memory = memory.map_err(|error| error.to_string())?;
                        let page = 1_u64 << memory.page_size_log2.unwrap_or(16).min(63);
                        let bytes = memory.initial.saturating_mul(page);
                        outline.memory_bytes = outline.memory_bytes.saturating_add(bytes);
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }
}

fn interface(hook: &Label, outline: &Outline) -> Result<(), HookError> {
    let mut excess = Vec::new();
    for import in &outline.imports {
        let ours = import.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@'));
        match ours {
            Some((_, version)) if !KNOWN.contains(&version) => {
                return Err(HookError::OtherVersion {
                    hook: hook.clone(),
                    found: clean(version, MAX_NAME_BYTES),
                    known: KNOWN.to_vec(),
                });
            }
            Some((name, _)) if INTERFACES.contains(&name) => {}
            _ => excess.push(format!("`{}`", clean(import, MAX_NAME_BYTES))),
        }
    }
    if !excess.is_empty() {
        excess.truncate(MAX_NAMES);
        return Err(HookError::ForbiddenImports { hook: hook.clone(), imports: excess });
    }
    if let Some(missing) = EXPORTS.iter().find(|&&name| !outline.exports.contains(name)) {
        let reason = format!("it exports no `{missing}`");
        return Err(HookError::WrongWorld { hook: hook.clone(), reason });
    }
    Ok(())
}
