//! Run files: what is read can be written down and read again.

use super::{MIB, Target};
use forerunner_runtime::config::{ConfigError, RunFile};

pub(super) const TARGET: Target = Target {
    name: "run-file",
    about: "run files and `--set` assignments",
    corpus,
    dictionary: &[
        "[[mutator]]\n",
        "[run]\n",
        "[budget]\n",
        "[confirm]\n",
        "[selector]\n",
        "[[hook]]\n",
        "name = \"x\"\n",
        "seconds = 1e999\n",
        "slots = 0\n",
        "slots = 18446744073709551615\n",
        "weight = -1.0\n",
        "weight = nan\n",
        "inf",
        "seeds = 3\n",
        "a.b.c = { d = [1, 2] }\n",
        "\0budget.seconds=5",
        "\0run.seed=\"",
        "1979-05-27T07:32:00Z",
        "'''",
        "\"\"\"",
    ],
    longest: 16 << 10,
    confined: true,
    memory_bytes: 512 << 20,
    allocation_bytes: 64 * MIB,
    run,
};

/// A run file, and after zero bytes what `--set` is given.
fn corpus() -> Vec<Vec<u8>> {
    let quickstart = include_str!("../../../../environments/nanogpt/runs/quickstart.toml");
    let hour = include_str!("../../../../environments/nanogpt/runs/hour.toml");
    let with_sets = format!("{hour}\0budget.seconds=5\0run.slots=1\0mutator.0.weight=2");
    [quickstart, hour, &with_sets].map(|text| text.as_bytes().to_vec()).to_vec()
}

fn run(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let (file, sets) = text.split_once('\0').unwrap_or((&text, ""));
    let sets: Vec<String> =
        sets.split('\0').filter(|set| !set.is_empty()).map(str::to_owned).collect();
    let read = match RunFile::parse("fuzzed", file, &sets) {
        Ok(read) => read,
        Err(
            ConfigError::Parse { message, .. }
            | ConfigError::Set { message, .. }
            | ConfigError::Invalid { message, .. },
        ) => {
            // Lines with a bar quote the input.
            let plain: Vec<&str> = message.lines().filter(|line| !line.contains('|')).collect();
            return plain.join(" & ");
        }
        Err(error) => return error.to_string(),
    };
    // As the store keeps it, and as a resumed run reads it.
    let kept = serde_json::to_string(&read).expect("a run file goes into JSON");
    let back: RunFile = serde_json::from_str(&kept).expect("its own JSON");
    assert_eq!(back, read, "a run file changes when it is kept");
    assert!(read.conflicts(&back).is_empty(), "a run file conflicts with itself");
    "a run file".to_owned()
}
