//! Kernels that come as source at run time: compiled for real wherever the compiler's library is,
//! launched where there is a device too.
#![cfg(feature = "cuda")]

mod support;

use forerunner_kernels::{
    CustomArgument, CustomImage, CustomSource, Error, Grid, Machine, Result, Type, compile_custom,
};
use support::{noise, rounded};

/// `y = a·x + y`, in bf16 and in single precision.
const AXPY: &str = "
KERNEL(axpy_bf16, (const bf16* x, bf16* y, uint32_t count, float a)) {
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = to_bf16(a * to_float(x[i]) + to_float(y[i]));
}
KERNEL(axpy_f32, (const float* x, float* y, int count, float a)) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = a * x[i] + y[i];
}
";

/// One of everything that `device.cuh` offers: it has to compile without CUDA's own headers.
const TOOLS: &str = "
KERNEL_BOUNDS(tools, 128, 1, (const bf16* from, bf16* to, float* sums)) {
    DYNAMIC_SHARED(bf16, tile);
    copy_async16(tile + 8 * threadIdx.x, from + 8 * threadIdx.x, true);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    uint32_t a[4], b[2];
    load_matrix_x4(a, tile + 8 * (threadIdx.x % 32));
    load_matrix_x2_transposed(b, tile + 8 * (threadIdx.x % 16));
    float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    mma_bf16(d, a, b);
    float x[8];
    Bf16x8 eight = load8(from);
    for (int i = 0; i < 8; ++i) x[i] = fast_tanh(fast_exp(get(eight, i))) + fast_log(d[i % 4]);
    store8(to + 8 * threadIdx.x, pack8(x));
    float sum = block_sum<128>(x[0]), top = block_max<128>(x[1]);
    if (threadIdx.x == 0) {
        sums[0] = sum;
        sums[1] = fast_divide(top, low_bf16(pack_bf16(d[0], d[1])));
    }
}
";

/// Compiles for 9.0, or says that there is no compiler here.
#[expect(clippy::print_stderr, reason = "tests skip aloud where there is no compiler")]
fn compiled(text: &str) -> Option<Result<CustomImage>> {
    match compile_custom(&CustomSource::new(text).unwrap(), 90) {
        Err(Error::Custom { reason }) if reason.contains("run-time compiler is missing") => {
            eprintln!("skipped, as nothing compiles here: {reason}");
            None
        }
        result => Some(result),
    }
}

#[test]
fn sources_are_compiled_without_a_device() {
    let Some(image) = compiled(AXPY) else { return };
    let image = image.unwrap();
    assert_eq!(image.names().collect::<Vec<_>>(), ["axpy_bf16", "axpy_f32"]);
    assert!(image.bytes() > 1000, "{image:?}");
    assert!(
        format!("{image:?}").contains("axpy_f32[Pointer, Pointer, Integer, Float]"),
        "{image:?}"
    );
    for capability in [80, 90, 100] {
        compile_custom(&CustomSource::new(TOOLS).unwrap(), capability).unwrap();
    }
}

#[test]
fn fast_math_is_for_those_who_ask() {
    let text = "KERNEL(divide, (float* x)) { x[0] = x[1] / x[2] + sqrtf(x[3]) + expf(x[4]); }";
    let Some(precise) = compiled(text) else { return };
    let fast = CustomSource::new(text).unwrap().with_fast_math();
    let fast = compile_custom(&fast, 90).unwrap();
    assert!(fast.bytes() < precise.unwrap().bytes());
}

#[test]
fn what_does_not_compile_is_explained() {
    let Some(error) = compiled("KERNEL(k, (float* x)) {\n    x[0] = nonsense;\n}") else { return };
    let error = error.unwrap_err().to_string();
    assert!(error.contains("the compiler refuses the source:\nkernels.cu(2): error"), "{error}");
    assert!(error.contains("nonsense"), "{error}");
    // A thousand complaints are cut, and a quotation cannot write on a terminal.
    let many = "KERNEL(k, ()) {\n".to_owned() + &"int i = \"\t\" + nonsense;\n".repeat(1000) + "}";
    let error = compiled(&many).unwrap().unwrap_err().to_string();
    assert!(error.len() < 5000 && error.ends_with("(cut here)"), "{error}");
    assert!(error.chars().all(|c| c == '\n' || !c.is_control()), "{error:?}");
}

#[test]
fn kernels_that_cannot_be_launched_are_refused() {
    let check = |text: &str, reason: &str| {
        let Some(result) = compiled(text) else { return };
        let error = result.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    check("__device__ float f(float x) { return x; }", "the source holds no kernel");
    check("KERNEL(k, (double x, double* y)) { *y = x; }", "parameter 1 of kernel `k`");
    check(
        "struct Two { float a, b; };\nKERNEL(k, (float* y, Two x)) { *y = x.a; }",
        "parameter 2 of kernel `k` is neither a pointer",
    );
    let many: String = (0..17).map(|n| format!("KERNEL(k{n}, ()) {{}}\n")).collect();
    check(&many, "17 kernels, more than 16");
    // Six million bytes of constants.
    check(
        "__constant__ int some = 1;\n__device__ int large[1500000] = {1};\n\
         KERNEL(k, (int* y)) { *y = large[*y]; }",
        "more than 4194304",
    );
    // What inline assembly slips in is seen as well.
    check(
        "KERNEL(k, ()) { asm(\"ret; } .visible .entry k2(.param .f64 x) {\"); }",
        "parameter 1 of kernel `k2` is neither",
    );
}

/// The first device, if its compiler is there too.
#[expect(clippy::print_stderr, reason = "tests skip aloud where there is no device")]
fn device() -> Option<Machine> {
    match Machine::cuda(0) {
        Ok(machine) => Some(machine),
        Err(error) => {
            eprintln!("skipped on a device: {error}");
            None
        }
    }
}

#[expect(unsafe_code, reason = "the test's own kernels keep to their arguments")]
fn launch(
    machine: &Machine,
    kernel: &forerunner_kernels::CustomKernel,
    count: usize,
    arguments: &[CustomArgument<'_>],
) -> Result<()> {
    let blocks = [count.div_ceil(128) as u32, 1, 1];
    let grid = Grid { blocks, threads: [128, 1, 1], shared_bytes: 0 };
    // SAFETY: `axpy` checks its index against the count that is handed over with both views.
    unsafe { machine.launch_custom(kernel, grid, arguments) }
}

#[test]
fn kernels_run_on_a_device() {
    let Some(machine) = device() else { return };
    let kernels = machine.custom_kernels(&CustomSource::new(AXPY).unwrap()).unwrap();
    assert_eq!(kernels.len(), 2);
    let error = kernels.kernel("axpy").unwrap_err().to_string();
    assert!(error.ends_with("unknown kernel `axpy` (known: axpy_bf16, axpy_f32)"), "{error}");
    for count in [1, 128, 1001] {
        for (name, type_) in [("axpy_bf16", Type::Bf16), ("axpy_f32", Type::F32)] {
            let kernel = kernels.kernel(name).unwrap();
            let (a, b) = (noise(count, 1), noise(count, 2));
            let x = machine.upload_f32(type_, &a).unwrap();
            // One value more, which nobody may write.
            let mut long = b.clone();
            long.push(7.0);
            let mut y = machine.upload_f32(type_, &long).unwrap();
            let n = if type_ == Type::Bf16 {
                CustomArgument::U32(count as u32)
            } else {
                CustomArgument::I32(count as i32)
            };
            let arguments = [
                CustomArgument::Read(x.view()),
                CustomArgument::Written(y.view_mut()),
                n,
                CustomArgument::F32(0.5),
            ];
            launch(&machine, &kernel, count, &arguments).unwrap();
            let got = machine.download(&y.view()).unwrap();
            let round = |x: f32| if type_ == Type::Bf16 { rounded(x) } else { x };
            // Halving is exact, so that a fused sum and one of two roundings agree.
            let mut want: Vec<f32> =
                a.iter().zip(&b).map(|(&a, &b)| round(0.5 * round(a) + round(b))).collect();
            want.push(7.0);
            assert_eq!(got, want, "{name} of {count}");
        }
    }
    let kernel = kernels.kernel("axpy_f32").unwrap();
    let error = launch(&machine, &kernel, 1, &[CustomArgument::F32(0.5)]).unwrap_err().to_string();
    assert!(error.contains("declares 4 parameters, and is handed 1"), "{error}");
}

#[test]
fn shared_memory_beyond_the_usual_can_be_had() {
    let Some(machine) = device() else { return };
    let text = "KERNEL(fill, (float* to, uint32_t count)) {
        DYNAMIC_SHARED(float, all);
        for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) all[i] = 3.0f * i;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) to[i] = all[count - 1 - i];
    }";
    let kernels = machine.custom_kernels(&CustomSource::new(text).unwrap()).unwrap();
    let kernel = kernels.kernel("fill").unwrap();
    let count = 20_000u32;
    let mut to = machine.scratch(Type::F32, count as usize).unwrap();
    let arguments = [CustomArgument::Written(to.view_mut()), CustomArgument::U32(count)];
    let grid = Grid { blocks: [1; 3], threads: [256, 1, 1], shared_bytes: 4 * count };
    #[expect(unsafe_code, reason = "the test's own kernel keeps to its arguments")]
    // SAFETY: memory and shared memory hold as many values as the kernel is told.
    unsafe { machine.launch_custom(&kernel, grid, &arguments) }.unwrap();
    let got = machine.download(&to.view()).unwrap();
    let want: Vec<f32> = (0..count).rev().map(|i| 3.0 * i as f32).collect();
    assert_eq!(got, want);
}

/// An address that is nobody's breaks the process's device for good, so this has a process of its
/// own: the test starts itself once more, and that process's end is what is looked at.
#[test]
fn a_stray_write_fails_every_later_call() {
    const CHILD: &str = "FORERUNNER_TEST_STRAY_WRITE";
    let Some(machine) = device() else { return };
    if std::env::var_os(CHILD).is_none() {
        drop(machine);
        let this = std::env::current_exe().unwrap();
        let mut child = std::process::Command::new(this);
        child.args(["a_stray_write_fails_every_later_call", "--exact"]).env(CHILD, "1");
        assert!(child.status().unwrap().success());
        return;
    }
    let text = "KERNEL(stray, (float* to)) { to[1ull << 46] = 1.0f; }";
    let kernels = machine.custom_kernels(&CustomSource::new(text).unwrap()).unwrap();
    let mut to = machine.zeros(Type::F32, 1).unwrap();
    let arguments = [CustomArgument::Written(to.view_mut())];
    let grid = Grid { blocks: [1; 3], threads: [1; 3], shared_bytes: 0 };
    let kernel = kernels.kernel("stray").unwrap();
    #[expect(unsafe_code, reason = "what happens is the test")]
    // SAFETY: kept by nobody; the process has nothing else on the device.
    let _ = unsafe { machine.launch_custom(&kernel, grid, &arguments) };
    machine.synchronize().unwrap_err();
    // It stays so, whatever is asked next.
    machine.synchronize().unwrap_err();
    machine.zeros(Type::F32, 1).unwrap_err();
}
