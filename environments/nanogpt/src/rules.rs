//! What a program's source may mention. Clear messages early; the sandbox, the harness's narrow
//! interface and the absence of anything to steal are what keeps results honest.

use crate::Track;
use forerunner_workbench::{Refused, Rules};

const RANDOMNESS: &str = "it is not seeded by the run; use `Params` for initial values and \
                          `run.rng(\"name\")` for everything else";
/// Names that do not exist in the harness, refused for the sake of a better message than the
/// compiler's.
const REFUSED: [(&str, &str); 6] = [
    ("Tensor::rand", RANDOMNESS),
    ("Tensor::randn", RANDOMNESS),
    ("Var::rand", RANDOMNESS),
    ("Var::randn", RANDOMNESS),
    ("rand_like", RANDOMNESS),
    ("randn_like", RANDOMNESS),
];

/// What programs with kernels of their own are written with.
const KERNELS: [&str; 2] = ["custom_kernel", "CudaSource"];
const NO_KERNELS: &str = "kernels of a program's own are for tracks on a GPU whose configuration says \
                          `custom_kernels = true`; use the harness's operations";

/// The rules of a track.
pub(crate) fn rules(track: &Track) -> Rules {
    let kernels = KERNELS.map(|name| Refused::new(name, NO_KERNELS));
    let kernels = kernels.into_iter().filter(|_| !track.custom_kernels);
    Rules {
        macros: ["ensure", "bail"].map(str::to_owned).into(),
        refused: REFUSED
            .map(|(name, why)| Refused::new(name, why))
            .into_iter()
            .chain(kernels)
            .collect(),
        ..Rules::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_core::Program;

    #[test]
    fn the_reference_breaks_no_rule() {
        let findings =
            rules(&Track::cpu()).check(&Program::single("main.rs", crate::spec::REFERENCE));
        assert_eq!(findings, []);
    }

    #[test]
    fn kernels_are_allowed_where_the_track_says_so() {
        let config = crate::Config {
            track: "gpt2-124m".into(),
            custom_kernels: true,
            ..crate::Config::default()
        };
        let track = Track::new(&config).unwrap();
        let text = "use harness::prelude::*;\nfn f(t: &Tensor) { let x = custom_kernel(t); }\n";
        let program = Program::single("main.rs", text);
        assert_eq!(rules(&track).check(&program), []);
        let track = Track { custom_kernels: false, ..track };
        assert_eq!(rules(&track).check(&program)[0].rule, "source/refused-name");
    }

    #[test]
    fn unseeded_randomness_is_refused_with_a_way_out() {
        let check = |line: &str, way_out: &str| {
            let text = format!("use harness::prelude::*;\nfn f(t: &Tensor) {{ {line} }}\n");
            let findings = rules(&Track::cpu()).check(&Program::single("main.rs", text));
            assert!(
                findings.iter().any(|finding| finding.message.contains(way_out)
                    && finding.place.as_deref() == Some("main.rs:2")),
                "{line}: {findings:?}"
            );
        };
        check("let x = Tensor::randn(0f32, 1f32, 3, &Device::Cpu);", "run.rng");
        check("let x = custom_kernel(&t)?;", "custom_kernels = true");
        check("let x = CudaSource { text };", "custom_kernels = true");
        check("let x = t.randn_like(0.0, 1.0);", "run.rng");
    }
}
