//! Settings, their fingerprints, and what is refused.

use super::*;

fn manifest() -> Manifest {
    let slices = crate::Part::ALL
        .map(|part| (part.name().to_owned(), crate::FileEntry { tokens: 1, sha256: "ab".into() }));
    Manifest {
        name: "x".into(),
        kind: crate::TokenKind::Bytes,
        vocab: 256,
        source: String::new(),
        slices: slices.into(),
    }
}

#[test]
fn whatever_changes_results_changes_the_fingerprint() {
    let of = |config: Config| Track::new(&config).unwrap().fingerprint(&manifest());
    let plain = of(Config::default());
    assert_eq!(plain, of(Config { windows: Some(1024), ..Config::default() }));
    assert_ne!(plain, of(Config { windows: Some(512), ..Config::default() }));
    assert_ne!(plain, of(Config { clock: Some(Clock::Steps), ..Config::default() }));
    assert_ne!(plain, of(Config { require_equivalent_loss: true, ..Config::default() }));
    assert_ne!(plain, of(Config { dev_windows: Some(512), ..Config::default() }));
    assert_eq!(plain, of(Config { dev_windows: Some(1024), ..Config::default() }));
    for other in ["cpu-2t", "fineweb-small", "fineweb-small-cuda", "gpt2-124m"] {
        assert_ne!(plain, of(Config { track: other.into(), ..Config::default() }));
    }
    let mut renamed = manifest();
    renamed.name = "y".into();
    assert_eq!(plain, Track::new(&Config::default()).unwrap().fingerprint(&renamed));
}

/// Results on these tracks are compared with stored ones: what is added for others must not
/// change them.
#[test]
fn fingerprints_of_cpu_tracks_stay_what_they_were() {
    let known = [
        ("cpu", "4c1f1dd0b2288df6"),
        ("fineweb-small", "c8ec16eb12176643"),
        ("cpu-2t", "0df194670ffd6a4d"),
    ];
    let now = known.map(|(name, _)| {
        let config = Config { track: name.into(), ..Config::default() };
        (name, Track::new(&config).unwrap().fingerprint(&manifest()))
    });
    assert_eq!(now, known.map(|(name, hash)| (name, hash.to_owned())));
}

#[test]
fn tracks_on_a_gpu_say_so() {
    let of = |name: &str, custom_kernels| {
        let config = Config { track: name.into(), custom_kernels, ..Config::default() };
        Track::new(&config).unwrap()
    };
    let small = of("fineweb-small", false);
    let (small_cuda, speedrun) = (of("fineweb-small-cuda", false), of("gpt2-124m", false));
    for track in [&small_cuda, &speedrun] {
        assert_eq!((track.device, track.clock), (Device::Cuda, Clock::Elapsed));
        assert!(track.tolerance > 0.0 && track.tolerance < track.seed_deviation);
        let setting = serde_json::to_string(track).unwrap();
        assert!(setting.contains(r#""device":"cuda""#) && !setting.contains("custom_kernels"));
        let other = of(&track.name, true);
        assert_ne!(track.fingerprint(&manifest()), other.fingerprint(&manifest()));
    }
    assert_eq!((small.context, small.tolerance), (small_cuda.context, 0.0));
    assert_eq!(small.max_parameters, small_cuda.max_parameters);
    assert_eq!(speedrun.scored_tokens(), 10_485_760);
    assert_eq!((speedrun.windows_of(Part::Dev), speedrun.target_loss), (10_240, 3.28));
    let config = Config { track: "gpt2-124m".into(), ..Config::default() };
    let fewer = Track::new(&Config { dev_windows: Some(640), ..config }).unwrap();
    assert_eq!((fewer.windows_of(Part::Dev), fewer.windows_of(Part::Val)), (640, 10_240));
}

#[test]
fn nonsense_is_refused_by_name() {
    let check = |config: Config, expected: &str| {
        assert_eq!(Track::new(&config).unwrap_err().to_string(), expected);
    };
    check(
        Config { track: "gpu".into(), ..Config::default() },
        "bad configuration: `track`: unknown track `gpu` (known: cpu, fineweb-small, cpu-2t, \
         fineweb-small-cuda, gpt2-124m)",
    );
    check(
        Config { track: "cpu-2t".into(), clock: Some(Clock::Calibrated), ..Config::default() },
        "bad configuration: `clock`: calibrated CPU seconds are for one thread; this track has \
         more (try `wall`)",
    );
    check(
        Config { track: "gpt2-124m".into(), clock: Some(Clock::Wall), ..Config::default() },
        "bad configuration: `clock`: it counts what the CPU does; this track's work is done on \
         a GPU (try `elapsed`)",
    );
    check(
        Config { custom_kernels: true, ..Config::default() },
        "bad configuration: `custom_kernels`: kernels are CUDA source; this track is measured \
         on the CPU",
    );
    check(
        Config { dev_windows: Some(0), ..Config::default() },
        "bad configuration: `dev_windows`: must be more than zero",
    );
    check(
        Config { windows: Some(0), ..Config::default() },
        "bad configuration: `windows`: must be more than zero",
    );
    check(
        Config { target_loss: Some(f64::NAN), ..Config::default() },
        "bad configuration: `target_loss`: must be more than zero",
    );
}
