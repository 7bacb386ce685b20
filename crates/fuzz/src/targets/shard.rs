//! Token files, FineWeb's among them: what opens holds what its header says.

use super::{MIB, Target};
use forerunner_nanogpt::{Shard, ShardWriter};
use std::{fs, path::Path};

pub(super) const TARGET: Target = Target {
    name: "shard",
    about: "token files (FineWeb's .bin)",
    corpus,
    dictionary: &[],
    longest: 8 << 10,
    confined: true,
    memory_bytes: 512 << 20,
    allocation_bytes: 16 * MIB,
    run,
};

fn corpus() -> Vec<Vec<u8>> {
    let shard = |magic: i32, version: i32, count: i32, tokens: &[u16]| {
        let mut bytes: Vec<u8> = [magic, version, count].map(i32::to_le_bytes).concat();
        bytes.resize(1024, 0);
        bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        bytes
    };
    vec![
        shard(20_240_520, 1, 3, &[1, 2, 50_256]),
        shard(20_240_520, 1, 1, &[0]),
        shard(20_240_520, 1, -1, &[0]),
        shard(20_240_801, 1, 2, &[7, 7]),
        shard(20_240_520, 1, 0, &[]),
    ]
}

/// In the work directory.
const FILE: &str = "shard.bin";
const COPY: &str = "copy.bin";

fn run(input: &[u8]) -> String {
    // A new file each time: the last one may still be mapped.
    let _ = fs::remove_file(FILE);
    fs::write(FILE, input).expect("the work directory is writable");
    let shard = match Shard::open(Path::new(FILE)) {
        Ok(shard) => shard,
        Err(error) => return error.to_string(),
    };
    assert_eq!(input.len(), 1024 + 2 * shard.len());
    assert!(!shard.is_empty());
    let tokens: Vec<u16> = shard.tokens(0..shard.len()).collect();
    assert_eq!(tokens.len(), shard.len());
    let largest = tokens.iter().copied().max().map_or(0, usize::from);
    assert!(shard.check_tokens(largest + 1).is_ok());
    assert!(shard.check_tokens(largest).is_err());
    let mut writer = ShardWriter::create(Path::new(COPY)).expect("the work directory is writable");
    writer.push(tokens).expect("it is writable");
    let copy = writer.finish().expect("it holds tokens");
    assert_eq!(copy.len(), shard.len());
    assert_eq!(fs::read(COPY).expect("just written")[1024..], input[1024..]);
    "a shard".to_owned()
}
