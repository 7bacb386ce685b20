//! Compiles the kernels: for devices with nvcc, for the emulator with the C++ compiler.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=cuda");
    println!("cargo::rerun-if-changed=emulator");
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "emulator")]
    emulator();
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        cuda();
    }
}

#[cfg(feature = "emulator")]
fn emulator() {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        // The dialect of the sources is C++ here, whatever their names say.
        .flag("-xc++")
        .define("FORERUNNER_EMULATOR", None)
        // Debug builds of emulated kernels are too slow to test with.
        .opt_level(2)
        .flag("-Wno-unknown-pragmas")
        .flag("-Wno-unused-function")
        // Coroutines leave their stacks by long jumps.
        .flag("-U_FORTIFY_SOURCE")
        .flag("-fno-strict-aliasing")
        // As on a device: products and sums stay apart unless `fmaf` says otherwise.
        .flag("-ffp-contract=off")
        .file("cuda/all.cu")
        .compile("forerunner_emulated_kernels");
}

/// Compute capabilities that are built unless `FORERUNNER_CUDA_ARCHITECTURES` names others, such as
/// `80,90a`; the first one is embedded as PTX too, for devices that none of them fits.
const ARCHITECTURES: &str = "80,90a";

fn cuda() {
    println!("cargo::rerun-if-env-changed=FORERUNNER_CUDA_ARCHITECTURES");
    println!("cargo::rerun-if-env-changed=NVCC");
    let architectures =
        env::var("FORERUNNER_CUDA_ARCHITECTURES").unwrap_or_else(|_| ARCHITECTURES.to_owned());
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let mut images = String::new();
    for (idx, architecture) in architectures.split(',').map(str::trim).enumerate() {
        let path = format!("{out}/kernels-{architecture}.cubin");
        let code = format!("arch=compute_{architecture},code=sm_{architecture}");
        nvcc(&["-cubin", "-gencode", &code, "-o", &path]);
        let number = architecture.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let capability: u32 = number.parse().unwrap_or_else(|_| {
            panic!("`{architecture}` is no compute capability, such as 80 or 90a")
        });
        // What a letter stands for is found on no other capability, not even a later one.
        let exact = number != architecture;
        let mut image = |ptx: bool, path: &str| {
            images += &format!(
                "    Image {{ capability: {capability}, exact: {exact}, ptx: {ptx}, \
                 bytes: include_bytes!({path:?}) }},\n"
            );
        };
        image(false, &path);
        if idx == 0 {
            let path = format!("{out}/kernels-{architecture}.ptx");
            nvcc(&["-ptx", &format!("-arch=compute_{architecture}"), "-o", &path]);
            image(true, &path);
        }
    }
    let code = format!("const IMAGES: &[Image] = &[\n{images}];\n");
    std::fs::write(format!("{out}/images.rs"), code).expect("OUT_DIR can be written to");
}

fn nvcc(arguments: &[&str]) {
    let nvcc = env::var("NVCC").unwrap_or_else(|_| "nvcc".to_owned());
    let output = std::process::Command::new(&nvcc)
        .args(["-std=c++17", "-O3", "cuda/all.cu"])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| {
            panic!("cannot run {nvcc}: {error}\nhint: `cargo xtask cuda-toolkit` brings a compiler")
        });
    assert!(
        output.status.success(),
        "{nvcc} refuses the kernels:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
