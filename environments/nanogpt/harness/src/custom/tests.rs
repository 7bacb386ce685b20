//! Who may compile kernels, and, on a CUDA device, that they are operations like others.

use super::*;

const SOURCE: &str = "
KERNEL(scaled_square, (const bf16* x, const float* s, bf16* y, float* total, uint32_t n, float a)) {
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = to_bf16(a * s[0] * to_float(x[i]) * to_float(x[i]));
    if (i == 0) total[0] = 4.0f * s[0];
}
KERNEL(back, (const bf16* x, const float* s, const bf16* y, const float* total, const bf16* dy,
              const float* dtotal, bf16* dx, float* ds, uint32_t n, float a)) {
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) dx[i] = to_bf16(2.0f * a * s[0] * to_float(x[i]) * to_float(dy[i]));
    if (i == 0) {
        float sum = 4.0f * dtotal[0];
        for (uint32_t k = 0; k < n; ++k) {
            sum += a * to_float(x[k]) * to_float(x[k]) * to_float(dy[k]);
        }
        ds[0] = sum;
    }
}
";

fn task(custom_kernels: bool) -> Task {
    Task { track: "test".into(), vocab: 3, context: 4, max_parameters: 5, custom_kernels }
}

#[test]
fn kernels_are_for_tracks_that_allow_them() {
    let error = CudaSource::new(&task(false), SOURCE).unwrap_err().to_string();
    assert_eq!(
        error,
        "the track `test` allows no kernels of a program's own\nhint: use the harness's \
         operations, or a track whose configuration says `custom_kernels = true`"
    );
}

#[test]
fn without_a_device_there_are_no_kernels() {
    for compile in [CudaSource::new, CudaSource::with_fast_math] {
        let error = compile(&task(true), SOURCE).unwrap_err().to_string();
        assert_eq!(error, "custom kernels run on a CUDA device only");
    }
}

#[test]
fn lines_cover_their_values() {
    for (values, threads, blocks) in [(1, 256, 1), (256, 256, 1), (257, 256, 2)] {
        assert_eq!(Grid::line(values, threads).unwrap().blocks, [blocks, 1, 1]);
    }
    for (values, threads) in [(0, 256), (7, 0), (usize::MAX, 1)] {
        let error = Grid::line(values, threads).unwrap_err().to_string();
        assert_eq!(error, format!("no grid of {threads} threads covers {values} values"));
    }
}

/// On an emulated device this ends with the refusal; on a CUDA device that has the compiler's library
/// a kernel's results and gradients are those of plain arithmetic.
#[cfg(feature = "device")]
#[test]
fn kernels_are_operations_where_there_is_a_device() {
    use crate::Var;
    use crate::params::flat;

    let skipped = |why: &str| {
        #[expect(clippy::print_stderr, reason = "tests skip aloud where there is no device")]
        {
            eprintln!("skipped on a device: {why}");
        }
    };
    if let Err(error) = crate::device::open() {
        return skipped(&error.to_string());
    }
    let error = CudaSource::new(&task(true), "#include <a>").unwrap_err().to_string();
    assert!(error.contains("the source holds `#include`"), "{error}");
    let source = match CudaSource::new(&task(true), SOURCE) {
        Ok(source) => source,
        Err(error) if cfg!(feature = "cuda") => return skipped(&error.to_string()),
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("on a CUDA device only, not on an emulated one"), "{error}");
            return;
        }
    };
    // Small integers and a power of two, so that nothing is rounded.
    let values: Vec<f32> = (0..300).map(|i| (i % 7) as f32 - 3.0).collect();
    let x = Var::new(&Tensor::from_vec(values, (3, 100)).unwrap()).unwrap();
    let s = Var::new(&Tensor::full(2.0, ()).unwrap()).unwrap();
    let grid = Grid::line(300, 128).unwrap();
    let numbers = [Number::U32(300), Number::F32(0.5)];
    let run = |backward: Option<Backward>| {
        custom_kernel(
            &source.kernel("scaled_square").unwrap(),
            grid,
            &[(&x, Kind::Bf16), (&s, Kind::F32)],
            &numbers,
            &[(x.dims(), Kind::Bf16), (&[], Kind::F32)],
            backward,
        )
    };
    let back = Backward { kernel: source.kernel("back").unwrap(), grid };
    let results = run(Some(back)).unwrap();
    assert_eq!((results[0].dims(), results[1].dims()), (&[3, 100][..], &[][..]));
    let plain = ((&x.sqr().unwrap() * &*s).unwrap() * 0.5).unwrap();
    assert_eq!(flat(&results[0]).unwrap(), flat(&plain).unwrap());
    let sum = |y: &Tensor, total: &Tensor| (y.sum_all().unwrap() + total).unwrap();
    let got = sum(&results[0], &results[1]).backward().unwrap();
    let want = sum(&plain, &(&*s * 4.0).unwrap()).backward().unwrap();
    for var in [&x, &s] {
        let (got, want) = (got.get(var).unwrap(), want.get(var).unwrap());
        assert_eq!(flat(&got).unwrap(), flat(&want).unwrap());
    }
    // A result that nobody used has a gradient of zeros; without a way back there is none.
    let back = Backward { kernel: source.kernel("back").unwrap(), grid };
    let results = run(Some(back)).unwrap();
    let found = results[1].sum_all().unwrap().backward().unwrap();
    assert_eq!(flat(&found.get(&s).unwrap()).unwrap(), [4.0]);
    assert!(flat(&found.get(&x).unwrap()).unwrap().iter().all(|&value| value == 0.0));
    let found = run(None).unwrap()[1].sum_all().unwrap().backward().unwrap();
    assert!(found.get(&s).is_none());
    // Kernels are counted over all sources: two and two are four, and fifteen more are too many.
    CudaSource::new(&task(true), SOURCE).unwrap();
    let many: String = (0..15).map(|n| format!("KERNEL(k{n}, ()) {{}}\n")).collect();
    let error = CudaSource::new(&task(true), &many).unwrap_err().to_string();
    assert!(error.contains("19 kernels in all sources, more than 16"), "{error}");
}
