//! The initial parameters as a file, in the format safetensors
//! (<https://huggingface.co/docs/safetensors>): a little-endian `u64`, so many bytes of JSON that say
//! where each tensor is, then the values.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use forerunner_nanogpt_protocol::Snapshot;
use serde_json::{Map, Value, json};

use super::Result;

/// Writes names, shapes and values, f32 that a bf16 can hold.
pub(crate) fn write(path: &Path, parameters: &Snapshot) -> Result<()> {
    let mut header = Map::new();
    let mut offset = 0;
    for spec in parameters.specs() {
        let bytes = 4 * spec.count().unwrap_or(0);
        header.insert(
            spec.name.clone(),
            json!({"dtype": "F32", "shape": spec.shape, "data_offsets": [offset, offset + bytes]}),
        );
        offset += bytes;
    }
    let header = serde_json::to_vec(&Value::Object(header))?;
    let create = File::create(path);
    let file = create.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let mut file = BufWriter::new(file);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for (_, values) in parameters.parameters() {
        for value in values {
            file.write_all(&value.to_le_bytes())?;
        }
    }
    Ok(file.flush()?)
}
