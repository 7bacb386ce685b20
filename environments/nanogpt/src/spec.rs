//! The environment in words and numbers: what may change, what is fixed, how it is scored.

use crate::{Clock, Manifest, Track};
use forerunner_core::{
    Change, EnvironmentSpec, Feature, Metrics, Objective, Objectives, Permission, Program, Purpose,
    Slice,
};
use forerunner_nanogpt_protocol::Device;
use forerunner_workbench::apply;

/// The program that every search on the track `cpu` starts from.
pub(crate) const REFERENCE: &str = include_str!("../programs/gpt2.rs");

/// What programs are made of, as people read it.
const MANUAL: &str = include_str!("../../../docs/programs/nanogpt.md");

/// The reference program of a track: the same, with the changes that suit its data and budget.
pub(crate) fn reference(track: &Track) -> String {
    let program = Program::single("main.rs", REFERENCE);
    let Some(patch) = track.patch else { return REFERENCE.to_owned() };
    let changed = apply(&program, &Change::Patch(patch.to_owned()));
    let mut changed = changed.expect("a test applies every track's patch");
    changed.files.remove("main.rs").expect("a patch keeps the file")
}

/// Describes a track on a data set.
pub(crate) fn spec(track: &Track, manifest: &Manifest, reference: String) -> EnvironmentSpec {
    let unit = manifest.kind.loss_unit();
    // Models of this size are trained on a thousand times as many tokens.
    let large = track.max_parameters > 50_000_000;
    let seconds = || Objective::minimize("seconds", "s");
    let loss = || Objective::minimize("loss", unit);
    EnvironmentSpec {
        name: "nanogpt".into(),
        track: track.name.clone(),
        fingerprint: track.fingerprint(manifest),
        summary: format!(
            "train a small language model to {} {unit} on held-out text in the shortest time",
            track.target_loss
        ),
        brief: brief(track, manifest),
        manual: MANUAL.into(),
        noise: Metrics::from([("loss".into(), track.seed_deviation)]),
        objectives: Objectives(vec![
            Objective::minimize("seconds_to_target", "s"),
            loss().with_target(track.target(Slice::Dev, Purpose::Search)),
        ]),
        frontier: vec![seconds(), loss()],
        features: vec![
            feature("parameters", if large { 1e6 } else { 1e4 }, track.max_parameters as f64, 8),
            if large { feature("tokens", 1e8, 1e11, 9) } else { feature("tokens", 1e5, 1e8, 9) },
        ],
        reference: Program::single("main.rs", reference),
        expensive_check: true,
        cores: track.threads,
        hooks: vec!["conduct".into()],
        grants: Permission::ALL.into(),
        disguises: true,
    }
}

fn feature(metric: &str, low: f64, high: f64, bins: u32) -> Feature {
    Feature { metric: metric.into(), low, high: high.max(2.0 * low), bins, log: true }
}

fn brief(track: &Track, manifest: &Manifest) -> String {
    let Track { context, windows, target_loss, max_parameters, .. } = track;
    let (limits, clock, from) = (limits(track), clock(track), from(track));
    let (unit, vocab, loss) = (manifest.kind.loss_unit(), manifest.vocab, who_scores(track));
    let batch_tokens = track.batch_tokens;
    format!(
        "\
Make a Rust program train a language model to a held-out loss of {target_loss} {unit} in as few
seconds as possible. The program is one file that depends on the crate `harness` alone.

What may change: everything in the file. Model, initialisation, optimizer, schedule, batch shapes,
number of steps, training loss, numeric constants. Ideas from the literature are welcome.

What is fixed, outside the program and out of its reach:
- The training stream: `run.batch(B, T)` serves sequences from random places, chosen by the seed;
  at most {batch_tokens} tokens at once, as often as you like. Vocabulary {vocab}.
- Values of tokens and tensors cannot be read: what a program learns passes through differentiable
  operations. Decisions on a loss or a norm are tensor arithmetic, as in the reference's clipping;
  `run.recent_loss()` is there for stopping early.
- All randomness comes from the harness, keyed by the run's seed and a name.
- The parameters declared in `Model::new` are handed over when `train` returns, rounded to
  bfloat16. At most {max_parameters} values. Nothing else is carried to the evaluation.
- The evaluation: a fresh process calls `Model::logits` on {windows} windows of {context} tokens.
  {loss}
- Logits at a position may depend on that token and earlier ones of its window only, must be the
  same when asked again, and must be finite. This is tested on the trained model.
- Limits: {limits}. A failure of any kind counts.

How it is scored: the clock runs in {clock}, measured from outside,
from {from} until the parameters are handed over; initialisation counts, evaluation does not.
Reaching the target beats not reaching it; among programs that reach it, fewer seconds win; among
the rest, lower loss wins. The seed is new each time: tuning to one seed gains nothing.

Parameters must be trained by gradient from values that do not depend on the data. Counting tables,
stored text and other knowledge about the data in the source are refused.

A doc comment ending in a line `tune: log 1e-4 1e-1`, `tune: int 1 64`, `tune: linear 0 1` or
`tune: choice 32 64` above a constant tells searches without a model how it may be varied. Keep
these lines true when you change constants, and give new constants such lines.

A gain is believed when it holds on fresh seeds and on a slice that the search never saw. Equal
speed with less code is an improvement too."
    )
}

/// What ends a training, for the brief.
fn limits(track: &Track) -> String {
    let Track { cpu_seconds, wall_seconds, memory_bytes, .. } = track;
    let memory_mib = memory_bytes >> 20;
    let kernels = match track.custom_kernels {
        true => "kernels as CUDA source are allowed",
        false => "no kernels of your own",
    };
    match track.device {
        Device::Cpu => format!("{cpu_seconds} CPU seconds, {memory_mib} MiB, {}", threads(track)),
        Device::Cuda => format!(
            "{wall_seconds} seconds, one GPU with all its memory, {memory_mib} MiB beside it;\n  \
             {kernels}. Activations are bfloat16, sums, parameters and optimizers f32; what a\n  \
             program does not read (it can read little) the GPU works off while the program goes on"
        ),
    }
}

/// When the clock starts, for the brief.
fn from(track: &Track) -> &'static str {
    match track.device {
        Device::Cpu => "its start",
        Device::Cuda => "the moment that it is given its GPU, set up and warmed up,",
    }
}

/// Who computes the loss of what, for the brief.
fn who_scores(track: &Track) -> &'static str {
    match track.device {
        Device::Cpu => "The loss is computed outside it from the logits, in f64, every token once.",
        Device::Cuda => {
            "The harness computes the loss from the logits, every token once; positions chosen in\n  \
             secret are answered again by a process that never saw the token asked for."
        }
    }
}

/// Threads, for the brief.
fn threads(track: &Track) -> String {
    match track.threads {
        1 => "one thread".to_owned(),
        n => format!(
            "{n} threads, which operations of\n  the harness use by themselves where they are large \
             enough; a program starts none"
        ),
    }
}

/// What the clock counts, for the brief.
fn clock(track: &Track) -> &'static str {
    match track.clock {
        Clock::Wall => "wall seconds of the training process",
        Clock::Elapsed => "wall seconds of the training process and its GPU",
        Clock::Steps => "tokens served to the training process",
        Clock::Calibrated | Clock::Raw => "CPU seconds of the training process",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, FileEntry, Part, TokenKind};

    #[test]
    fn every_track_has_a_reference_of_its_own() {
        let references = crate::track::TRACKS.map(|name| {
            let config = Config { track: name.into(), ..Config::default() };
            reference(&Track::new(&config).unwrap())
        });
        assert_eq!(references[0], REFERENCE);
        assert!(references[1].contains("const STEPS: usize = 1000;"));
        assert!(references[1].contains("head_loss("));
        assert_eq!(references[2], REFERENCE);
        assert_eq!(references[3], references[1]);
        assert!(references[4].contains("const STEPS: usize = 19_560;"));
    }

    #[test]
    fn the_brief_names_the_limits_and_the_spec_ranks_by_target_then_loss() {
        let slices =
            Part::ALL.map(|p| (p.name().to_owned(), FileEntry { tokens: 9, sha256: "a".into() }));
        let manifest = Manifest {
            name: "x".into(),
            kind: TokenKind::Bytes,
            vocab: 256,
            source: "test".into(),
            slices: slices.into(),
        };
        let track = Track::new(&Config::default()).unwrap();
        let spec = super::spec(&track, &manifest, REFERENCE.into());
        for fact in ["nats/byte", &track.max_parameters.to_string(), "Vocabulary 256"] {
            assert!(spec.brief.contains(fact), "{fact}");
        }
        assert_eq!(spec.cores, 1);
        let two = Track::new(&Config { track: "cpu-2t".into(), ..Config::default() }).unwrap();
        let two = super::spec(&two, &manifest, REFERENCE.into());
        assert_eq!(two.cores, 2);
        for (fact, other) in [("2 threads", "one thread"), ("in wall seconds", "in CPU seconds")] {
            assert!(two.brief.contains(fact) && !two.brief.contains(other), "{fact}");
            assert!(!spec.brief.contains(fact) && spec.brief.contains(other), "{other}");
        }
        let gpu = Track::new(&Config { track: "gpt2-124m".into(), ..Config::default() }).unwrap();
        let gpu = super::spec(&gpu, &manifest, REFERENCE.into());
        for (fact, other) in [
            ("from the moment that it is given its GPU", "from its start"),
            ("36000 seconds, one GPU", "CPU seconds"),
            ("no kernels of your own", "are allowed"),
        ] {
            assert!(gpu.brief.contains(fact) && !gpu.brief.contains(other), "{}", gpu.brief);
        }
        let tokens = |spec: &EnvironmentSpec| (spec.features[1].low, spec.features[1].high);
        assert_eq!((tokens(&spec), tokens(&gpu)), ((1e5, 1e8), (1e8, 1e11)));
        assert!(spec.brief.contains("- Limits: 45 CPU seconds, 2048 MiB, one thread. A failure"));
        let names: Vec<_> = spec.objectives.0.iter().map(|o| o.metric.as_str()).collect();
        assert_eq!(names, ["seconds_to_target", "loss"]);
        assert!(spec.reference.files["main.rs"].contains("harness::run"));
        assert!(spec.features.iter().all(|feature| feature.low < feature.high));
    }
}
