//! The operations on a device, results and gradients, against those on the CPU.
//!
//! On the emulator always, and on the first CUDA device where there is one. The CPU's own operations
//! are compared with their definitions in f64 elsewhere; here they compute in f32 from values
//! that a bf16 can hold, so what differs is the rounding of results and of what is kept in between.
#![cfg(any(feature = "emulator", feature = "cuda"))]
#![cfg_attr(
    feature = "cuda",
    expect(clippy::print_stderr, reason = "what is skipped is said aloud")
)]

use candle_core::{DType, Device, Result, Tensor, Var};
use forerunner_train_ops as cpu;
use forerunner_train_ops::device::{self as gpu, Place, Traced, use_place};

/// Results are rounded to 8 bits; gradients pass through two or three such roundings.
const RESULT: f64 = 4e-3;
const GRADIENT: f64 = 1.5e-2;

fn places() -> Vec<Place> {
    let emulated = None::<Place>;
    #[cfg(feature = "emulator")]
    let emulated = emulated.or_else(|| Some(Place::emulated(3)));
    let device = None::<Place>;
    #[cfg(feature = "cuda")]
    let device = device.or_else(|| {
        // Opened once: it takes a second, and there are many comparisons.
        static DEVICE: std::sync::OnceLock<Option<Place>> = std::sync::OnceLock::new();
        let open = || {
            let said = |error: &candle_core::Error| eprintln!("skipped on a device: {error}");
            Place::cuda(0).inspect_err(said).ok()
        };
        DEVICE.get_or_init(open).clone()
    });
    emulated.into_iter().chain(device).collect()
}

/// Values between -1 and 1 that a bf16 holds exactly.
fn noise(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 56) as f32 - 127.5) / 128.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
    flat.to_vec1().unwrap()
}

#[track_caller]
fn close(what: &str, got: &Tensor, want: &Tensor, bound: f64) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let (mut difference, mut size) = (0.0, 0.0);
    for (got, want) in values(got).into_iter().zip(values(want)) {
        difference += f64::from(got - want).powi(2);
        size += f64::from(want).powi(2);
    }
    let error = (difference / size.max(1e-30)).sqrt();
    assert!(error <= bound, "{what}: relative error {error:.2e}, more than {bound:.0e}");
}

type OnCpu<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;
type OnDevice<'a> = &'a dyn Fn(&[Traced]) -> Result<Traced>;

/// Compares results and all gradients of `on_device` and `on_cpu`, weighted by fixed noise so that
/// every value of the result matters differently.
#[track_caller]
fn check(what: &str, shapes: &[&[usize]], on_cpu: OnCpu<'_>, on_device: OnDevice<'_>) {
    let inputs: Vec<Tensor> =
        shapes.iter().zip(1..).map(|(shape, seed)| noise(shape, seed)).collect();
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let want = on_cpu(&tensors).unwrap();
    let weights = noise(want.dims(), 99);
    let store = (&want * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    for place in places() {
        use_place(Some(place.clone()));
        let traced: Vec<Traced> = inputs
            .iter()
            .map(|x| Traced::parameter(&x.to_device(&place.device).unwrap()))
            .collect();
        let got = on_device(&traced).unwrap();
        close(what, got.value(), &want, RESULT);
        let weights = weights.to_device(&place.device).unwrap();
        let weighted =
            gpu::generic(&[&got], move |x| (x[0].to_dtype(DType::F32)? * &weights)?.sum_all());
        let found = weighted.unwrap().backward().unwrap();
        for (idx, (traced, var)) in traced.iter().zip(&vars).enumerate() {
            let got = found.get(traced).unwrap_or_else(|| panic!("{what}: no gradient {idx}"));
            let want = store.get(var).unwrap();
            close(&format!("{what}, gradient {idx}"), got, want, GRADIENT);
        }
        use_place(None);
    }
}

#[test]
fn linear_layers() {
    let shapes: &[&[usize]] = &[&[2, 5, 24], &[16, 24], &[16]];
    check("linear", shapes, &|x| cpu::linear(&x[0], &x[1], &x[2]), &|x| {
        gpu::linear(&x[0], &x[1], &x[2])
    });
    check("linear_no_bias", &shapes[..2], &|x| cpu::linear_no_bias(&x[0], &x[1]), &|x| {
        gpu::linear_no_bias(&x[0], &x[1])
    });
    check("linear_gelu", shapes, &|x| cpu::gelu(&cpu::linear(&x[0], &x[1], &x[2])?), &|x| {
        gpu::linear_gelu(&x[0], &x[1], &x[2])
    });
}

/// GELU's gradient comes with the next product's, where that has whole eights; and where others read the
/// same GELU, theirs is added.
#[test]
fn layers_behind_a_gelu() {
    for hidden in [16, 12] {
        let shapes: &[&[usize]] = &[&[2, 5, 24], &[hidden, 24], &[hidden], &[8, hidden], &[8]];
        let on_cpu = |x: &[Tensor]| cpu::gelu(&cpu::linear(&x[0], &x[1], &x[2])?);
        let on_device = |x: &[Traced]| gpu::linear_gelu(&x[0], &x[1], &x[2]);
        let what = format!("two layers, {hidden} hidden");
        check(&what, shapes, &|x| cpu::linear(&on_cpu(x)?, &x[3], &x[4]), &|x| {
            gpu::linear(&on_device(x)?, &x[3], &x[4])
        });
        let what = format!("three readers of {hidden} hidden");
        check(
            &what,
            &shapes[..4],
            &|x| {
                let h = on_cpu(x)?;
                let sum = (cpu::linear_no_bias(&h, &x[3])? + cpu::linear_no_bias(&h, &x[3])?)?;
                sum.broadcast_mul(&h.sum_all()?)
            },
            &|x| {
                let h = on_device(x)?;
                let two = [gpu::linear_no_bias(&h, &x[3])?, gpu::linear_no_bias(&h, &x[3])?];
                let sum = gpu::add(&two[0], &two[1])?;
                gpu::generic(&[&sum, &h], |x| {
                    let x = [x[0].to_dtype(DType::F32)?, x[1].to_dtype(DType::F32)?];
                    x[0].broadcast_mul(&x[1].sum_all()?)
                })
            },
        );
        // Nothing but a reader that is no layer.
        check(
            &format!("a norm of {hidden} hidden"),
            &shapes[..3],
            &|x| cpu::rms_norm_plain(&on_cpu(x)?, 1e-6),
            &|x| gpu::rms_norm_plain(&on_device(x)?, 1e-6),
        );
    }
}

#[test]
fn a_gelu_between_products_costs_no_pass_back() {
    for place in places() {
        use_place(Some(place.clone()));
        for (hidden, passes) in [(16, 0), (12, 1)] {
            let parameter = |shape: &[usize]| {
                Traced::parameter(&noise(shape, 1).to_device(&place.device).unwrap())
            };
            let (x, w, b) = (parameter(&[6, 8]), parameter(&[hidden, 8]), parameter(&[hidden]));
            let (last, target) =
                (parameter(&[8, hidden]), Tensor::zeros(6, DType::U32, &place.device));
            let y = gpu::linear_no_bias(&gpu::linear_gelu(&x, &w, &b).unwrap(), &last).unwrap();
            let loss = gpu::cross_entropy(&y, &target.unwrap()).unwrap();
            place.machine.profile(true);
            loss.backward().unwrap();
            let kernels = place.machine.profiled().unwrap();
            place.machine.profile(false);
            let is_pass = |name: &str| name == "gelu_backward";
            let found = kernels.iter().filter(|kernel| is_pass(&kernel.name)).count();
            assert_eq!(found, passes, "{hidden} hidden: {kernels:?}");
        }
    }
    use_place(None);
}

#[test]
fn norms() {
    let shapes: &[&[usize]] = &[&[3, 7, 40], &[40], &[40]];
    check("layer_norm", shapes, &|x| cpu::layer_norm(&x[0], &x[1], &x[2], 1e-5), &|x| {
        gpu::layer_norm(&x[0], &x[1], &x[2], 1e-5)
    });
    check("rms_norm", &shapes[..2], &|x| cpu::rms_norm(&x[0], &x[1], 1e-6), &|x| {
        gpu::rms_norm(&x[0], &x[1], 1e-6)
    });
    check("rms_norm_plain", &shapes[..1], &|x| cpu::rms_norm_plain(&x[0], 1e-6), &|x| {
        gpu::rms_norm_plain(&x[0], 1e-6)
    });
}

#[test]
fn a_stream_and_its_norm() {
    let shapes: &[&[usize]] = &[&[3, 7, 40], &[3, 7, 40], &[40], &[40]];
    // Both results matter, as in a residual stream.
    check(
        "residual_layer_norm",
        shapes,
        &|x| {
            let sum = (&x[0] + &x[1])?;
            &sum + cpu::layer_norm(&sum, &x[2], &x[3], 1e-5)?
        },
        &|x| {
            let (sum, y) = gpu::residual_layer_norm(&x[0], &x[1], &x[2], &x[3], 1e-5)?;
            gpu::add(&sum, &y)
        },
    );
    check(
        "residual_rms_norm",
        &shapes[..2],
        &|x| {
            let sum = (&x[0] + &x[1])?;
            &sum + cpu::rms_norm_plain(&sum, 1e-6)?
        },
        &|x| {
            let (sum, y) = gpu::residual_rms_norm(&x[0], &x[1], 1e-6)?;
            gpu::add(&sum, &y)
        },
    );
    // Of the two results only the norm, as before a head.
    check(
        "residual_layer_norm's norm",
        shapes,
        &|x| cpu::layer_norm(&(&x[0] + &x[1])?, &x[2], &x[3], 1e-5),
        &|x| Ok(gpu::residual_layer_norm(&x[0], &x[1], &x[2], &x[3], 1e-5)?.1),
    );
    // Of the two results only the sum.
    check("residual_rms_norm's sum", &shapes[..2], &|x| &x[0] + &x[1], &|x| {
        Ok(gpu::residual_rms_norm(&x[0], &x[1], 1e-6)?.0)
    });
}

#[test]
fn activations() {
    let shape: &[&[usize]] = &[&[5, 7, 18]];
    check("gelu", shape, &|x| cpu::gelu(&x[0]), &|x| gpu::gelu(&x[0]));
    check("relu_squared", shape, &|x| cpu::relu_squared(&x[0]), &|x| gpu::relu_squared(&x[0]));
    check("softcap", shape, &|x| cpu::softcap(&x[0], 0.7), &|x| gpu::softcap(&x[0], 0.7));
    check("swiglu", shape, &|x| cpu::swiglu(&x[0]), &|x| gpu::swiglu(&x[0]));
}

#[test]
fn heads() {
    for (length, heads, width) in [(5, 2, 8), (70, 1, 64), (40, 2, 64)] {
        let shape: &[&[usize]] = &[&[2, length, 3 * heads * width]];
        let what = |name: &str| format!("{name} of {length} positions, {heads} heads of {width}");
        check(&what("causal_attention"), shape, &|x| cpu::causal_attention(&x[0], heads), &|x| {
            gpu::causal_attention(&x[0], heads)
        });
        check(
            &what("windowed_attention"),
            shape,
            &|x| cpu::windowed_attention(&x[0], heads, 3),
            &|x| gpu::windowed_attention(&x[0], heads, 3),
        );
        check(&what("qk_norm"), shape, &|x| cpu::qk_norm(&x[0], heads, 1.5), &|x| {
            gpu::qk_norm(&x[0], heads, 1.5)
        });
        check(&what("rotary"), shape, &|x| cpu::rotary(&x[0], heads, 100.0), &|x| {
            gpu::rotary(&x[0], heads, 100.0)
        });
    }
}

#[test]
fn tokens() {
    let ids = Tensor::from_vec(vec![3u32, 0, 12, 12, 5, 1], (2, 3), &Device::Cpu).unwrap();
    let here = |x: &Traced| ids.to_device(x.value().device());
    check("embedding", &[&[13, 16]], &|x| cpu::embedding(&x[0], &ids), &|x| {
        gpu::embedding(&x[0], &here(&x[0])?)
    });
    check("cross_entropy", &[&[2, 3, 13]], &|x| cpu::cross_entropy(&x[0], &ids), &|x| {
        gpu::cross_entropy(&x[0], &here(&x[0])?)
    });
    let shapes: &[&[usize]] = &[&[2, 3, 16], &[13, 16]];
    check("head_loss", shapes, &|x| cpu::head_loss(&x[0], &x[1], &ids), &|x| {
        gpu::head_loss(&x[0], &x[1], &here(&x[0])?)
    });
    check(
        "softcapped_head_loss",
        shapes,
        &|x| {
            let logits = cpu::softcap(&cpu::linear_no_bias(&x[0], &x[1])?, 2.0)?;
            cpu::cross_entropy(&logits, &ids)
        },
        &|x| gpu::softcapped_head_loss(&x[0], &x[1], &here(&x[0])?, 2.0),
    );
}

#[test]
fn what_has_no_kernel_is_done_by_candle() {
    check("a mixture", &[&[4, 6], &[6, 3]], &|x| x[0].tanh()?.matmul(&x[1])?.exp(), &|x| {
        gpu::generic(&[&x[0], &x[1]], |x| x[0].tanh()?.matmul(&x[1])?.exp())
    });
    // Used twice, and once more by another way: three gradients meet.
    check("a value used thrice", &[&[4, 6]], &|x| (&x[0] + &x[0])? + x[0].sqr()?, &|x| {
        let twice = gpu::add(&x[0], &x[0])?;
        gpu::add(&twice, &gpu::generic(&[&x[0]], |x| x[0].sqr())?)
    });
}

#[test]
fn parts_of_tensors_may_begin_anywhere() {
    // Three values in, where no wide access can start; and turned around, where rows lie apart.
    let part = |x: &Tensor| x.flatten_all()?.narrow(0, 3, 20);
    check("a part", &[&[4, 6]], &|x| cpu::gelu(&part(&x[0])?), &|x| {
        gpu::gelu(&gpu::generic(&[&x[0]], move |x| part(&x[0]))?)
    });
    check(
        "two parts that meet",
        &[&[4, 6]],
        &|x| cpu::gelu(&x[0].t()?.contiguous()?)? + x[0].t()?,
        &|x| {
            let turned = gpu::generic(&[&x[0]], |x| x[0].t())?;
            gpu::add(&gpu::gelu(&turned)?, &gpu::generic(&[&x[0]], |x| x[0].t())?)
        },
    );
}

#[test]
fn a_step_cannot_be_gone_back_twice() {
    for place in places() {
        use_place(Some(place.clone()));
        let x = Traced::parameter(&noise(&[3], 1).to_device(&place.device).unwrap());
        let y = gpu::generic(&[&x], |x| x[0].sqr()?.sum_all()).unwrap();
        y.backward().unwrap();
        let error = y.backward().unwrap_err().to_string();
        assert!(error.contains("a step cannot be gone back twice"), "{error}");
        // What nobody traces has no gradients, and keeps nothing.
        let constant = Traced::constant(x.value());
        assert!(!gpu::gelu(&constant).unwrap().is_traced());
        use_place(None);
    }
}
