//! NVML, the driver's own library for watching GPUs, opened at run time.
//!
//! Nothing is linked: `nvml-wrapper` loads `libnvidia-ml.so.1` by name. A machine without it, or a
//! value that a GPU does not tell, is a reason in words and never an error.

use super::watch::{Gauge, Reading, Reason};
use nvml_wrapper::{
    Device, Nvml,
    bitmasks::device::ThrottleReasons,
    enum_wrappers::device::{Clock, TemperatureSensor},
    error::NvmlError,
};
use std::sync::Arc;

/// One GPU as NVML sees it.
#[derive(Debug, Clone)]
pub(super) struct Monitor {
    nvml: Arc<Nvml>,
    index: u32,
    /// As in `GPU-5c1f…`.
    pub(super) uuid: String,
    /// Product, driver and power limit, for people.
    pub(super) description: String,
    /// Whether it is divided into instances, of which one would be measured beside others.
    pub(super) divided: bool,
}

impl Monitor {
    /// Opens the library and finds the GPU with this minor number.
    ///
    /// # Errors
    /// Why nothing can be read, in words.
    pub(super) fn open(minor: u32) -> Result<Self, String> {
        let nvml = Nvml::init().map_err(|error| match error {
            NvmlError::LibloadingError(_) => "there is no NVML (`libnvidia-ml.so.1`)".to_owned(),
            other => format!("NVML does not start: {other}"),
        })?;
        let nvml = Arc::new(nvml);
        let text = |error: NvmlError| format!("NVML does not say which GPUs there are: {error}");
        let count = nvml.device_count().map_err(text)?;
        let has_it = |&index: &u32| {
            let found = nvml.device_by_index(index).and_then(|device| device.minor_number());
            found.is_ok_and(|number| number == minor)
        };
        if let Some(index) = (0..count).find(has_it) {
            let device = nvml.device_by_index(index).map_err(text)?;
            let uuid = device.uuid().map_err(text)?;
            let description = describe(&nvml, &device);
            let divided = device.mig_mode().is_ok_and(|mode| mode.current != 0);
            return Ok(Self { nvml: Arc::clone(&nvml), index, uuid, description, divided });
        }
        Err(format!("NVML knows no GPU with the minor number {minor} (of {count})"))
    }
}

fn describe(nvml: &Nvml, device: &Device<'_>) -> String {
    let mut parts = vec![device.name().unwrap_or_else(|_| "a GPU without a name".into())];
    parts.extend(nvml.sys_driver_version().ok().map(|version| format!("driver {version}")));
    let limit = device.enforced_power_limit().ok();
    parts.extend(limit.map(|milliwatts| format!("power limit {} W", milliwatts / 1000)));
    let most = device.max_clock_info(Clock::SM).ok();
    parts.extend(most.map(|megahertz| format!("at most {megahertz} MHz")));
    parts.join(", ")
}

impl Gauge for Monitor {
    fn read(&mut self) -> Reading {
        let Ok(device) = self.nvml.device_by_index(self.index) else { return Reading::default() };
        let number = |value: Result<u32, NvmlError>| value.ok().map(f64::from);
        Reading {
            sm_mhz: number(device.clock_info(Clock::SM)),
            memory_mhz: number(device.clock_info(Clock::Memory)),
            watts: number(device.power_usage()).map(|milliwatts| milliwatts * 1e-3),
            celsius: number(device.temperature(TemperatureSensor::Gpu)),
            busy_percent: device.utilization_rates().ok().map(|rates| rates.gpu.into()),
            memory_bytes: device.memory_info().ok().map(|memory| memory.used as f64),
            reasons: device.current_throttle_reasons().ok().map(reasons),
            processes: device
                .running_compute_processes()
                .ok()
                .map(|processes| processes.into_iter().map(|process| process.pid).collect()),
        }
    }
}

/// NVML's bits in words. That a GPU idles is no reason to speak of.
fn reasons(bits: ThrottleReasons) -> Vec<Reason> {
    let known = [
        (ThrottleReasons::SW_POWER_CAP, Reason::PowerCap),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, Reason::PowerBrake),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, Reason::Thermal),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, Reason::ThermalHardware),
        (ThrottleReasons::HW_SLOWDOWN, Reason::Hardware),
        (ThrottleReasons::SYNC_BOOST, Reason::SyncBoost),
        (ThrottleReasons::APPLICATIONS_CLOCKS_SETTING, Reason::Setting),
    ];
    known.into_iter().filter(|(bit, _)| bits.contains(*bit)).map(|(_, reason)| reason).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn bits_become_words() {
        let bits = ThrottleReasons::GPU_IDLE | ThrottleReasons::SW_POWER_CAP;
        assert_eq!(reasons(bits), [Reason::PowerCap]);
        assert!(reasons(ThrottleReasons::NONE).is_empty());
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "what is skipped is said aloud")]
    fn a_machine_with_nvml_answers_and_one_without_says_so() {
        match Monitor::open(0) {
            Ok(mut monitor) => {
                assert!(monitor.uuid.starts_with("GPU-"), "{}", monitor.uuid);
                let reading = monitor.read();
                assert!(reading.sm_mhz.is_some_and(|clock| clock > 0.0), "{reading:?}");
                assert!(reading.memory_bytes.is_some(), "{reading:?}");
            }
            Err(reason) => {
                eprintln!("skipped in part: {reason}");
                let has_node = Path::new("/dev/nvidiactl").exists();
                assert!(has_node || reason.contains("no NVML"), "{reason}");
            }
        }
    }
}
