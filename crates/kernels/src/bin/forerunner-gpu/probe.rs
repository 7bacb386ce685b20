//! What a GPU is.

use cudarc::driver::{CudaContext, sys::CUdevice_attribute as Attribute};

use crate::{
    device::{Failure, open},
    report::Report,
};

/// Name, UUID, sizes, versions and highest clocks.
pub(crate) fn probe(ordinal: usize) -> Result<Report, Failure> {
    let context = open(ordinal)?;
    let (major, minor) = context.compute_capability().map_err(Failure::at("probe"))?;
    let (free, total) = context.mem_get_info().map_err(Failure::at("probe"))?;
    let kilohertz = |attribute| Ok::<f64, Failure>(f64::from(get(&context, attribute)?) * 1e-3);
    let uuid = context.uuid().map_err(Failure::at("probe"))?;
    Ok(Report::default()
        .text("name", context.name().map_err(Failure::at("probe"))?)
        .text("uuid", uuid_text(uuid.bytes.map(|byte| byte.to_ne_bytes()[0])))
        .count("memory_bytes", total as u64)
        .count("free_bytes", free as u64)
        .count(
            "multiprocessors",
            u64::from(get(&context, Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?),
        )
        .text("compute_capability", format!("{major}.{minor}"))
        .text("cuda_driver", cuda_version()?)
        .text("driver", driver_version())
        .number("sm_mhz_max", kilohertz(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?)
        .number("memory_mhz_max", kilohertz(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?))
}

fn get(context: &CudaContext, attribute: Attribute) -> Result<u32, Failure> {
    let value = context.attribute(attribute).map_err(Failure::at("probe"))?;
    Ok(value.unsigned_abs())
}

/// The newest CUDA that the driver speaks, such as `13.0`.
fn cuda_version() -> Result<String, Failure> {
    let mut version = 0;
    // SAFETY: the driver writes one number to a local that outlives the call.
    #[expect(unsafe_code, reason = "a call of the driver")]
    let done = unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) };
    done.result().map_err(Failure::at("probe"))?;
    Ok(format!("{}.{}", version / 1000, version % 1000 / 10))
}

/// The kernel's driver, such as `580.159.04`; `unknown` where containers hide it.
fn driver_version() -> String {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    version_in(&text).unwrap_or("unknown").to_owned()
}

/// The first word made of numbers and at least one dot.
fn version_in(text: &str) -> Option<&str> {
    let numeric = |word: &&str| {
        word.contains('.')
            && word
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    text.split_whitespace().find(numeric)
}

/// As the driver's other tools write it: `GPU-` and groups of hexadecimal digits.
fn uuid_text(bytes: [u8; 16]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let groups = [0..4, 4..6, 6..8, 8..10, 10..16].map(|range| hex[range].concat());
    format!("GPU-{}", groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_other_tools_write_them() {
        let bytes = std::array::from_fn(|index| 0xf0 + index as u8);
        assert_eq!(uuid_text(bytes), "GPU-f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff");
        let line =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build";
        assert_eq!(version_in(line), Some("580.159.04"));
        assert_eq!(version_in("no version here."), None);
    }
}
