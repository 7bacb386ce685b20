//! A thread that reads a GPU's clocks while a program is measured, and what its readings amount to.

use forerunner_core::Series;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::series;

/// How often the GPU is read: often enough for what limits a clock to show, seldom enough to cost the
/// driver nothing.
const PERIOD: Duration = Duration::from_millis(100);

/// What can be read of a GPU at one moment; `None` where it does not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reading {
    /// Clock of the multiprocessors.
    pub(super) sm_mhz: Option<f64>,
    /// Clock of the memory.
    pub(super) memory_mhz: Option<f64>,
    /// Power drawn.
    pub(super) watts: Option<f64>,
    /// Temperature of the chip.
    pub(super) celsius: Option<f64>,
    /// Share of the last moments in which a kernel ran.
    pub(super) busy_percent: Option<f64>,
    /// Memory in use, whoever uses it.
    pub(super) memory_bytes: Option<f64>,
    /// What keeps the clock from rising.
    pub(super) reasons: Option<Vec<Reason>>,
    /// Processes that compute there.
    pub(super) processes: Option<Vec<u32>>,
}

/// What keeps a GPU's clock from rising (NVML's clock event reasons).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// The limit on power.
    PowerCap,
    /// The power supply asks for less.
    PowerBrake,
    /// Temperature, by software.
    Thermal,
    /// Temperature, by hardware: half the clock or less.
    ThermalHardware,
    /// Hardware: half the clock or less.
    Hardware,
    /// Another GPU of its group.
    SyncBoost,
    /// Somebody set the clock.
    Setting,
}

impl Reason {
    /// In words.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::PowerCap => "power limit",
            Self::PowerBrake => "power brake",
            Self::Thermal => "temperature",
            Self::ThermalHardware => "temperature (hardware)",
            Self::Hardware => "hardware slowdown",
            Self::SyncBoost => "another GPU's clock",
            Self::Setting => "clock setting",
        }
    }
}

/// One value of a reading.
type Value = fn(&Reading) -> Option<f64>;

/// Something that can be read again and again.
pub(super) trait Gauge: Send {
    /// One look.
    fn read(&mut self) -> Reading;
}

/// The running thread.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<Vec<(Duration, Reading)>>,
    begin: Instant,
}

impl Watch {
    /// Reads `gauge` from now on.
    ///
    /// # Errors
    /// When there is no room for a thread, in words.
    pub(super) fn start(mut gauge: impl Gauge + 'static) -> Result<Self, String> {
        let (stop, stopped) = channel();
        let begin = Instant::now();
        let body = move || {
            let mut readings = vec![(begin.elapsed(), gauge.read())];
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                readings.push((begin.elapsed(), gauge.read()));
            }
            readings.push((begin.elapsed(), gauge.read()));
            readings
        };
        let thread = std::thread::Builder::new().name("gpu-watch".into()).spawn(body);
        Ok(Self { stop, thread: thread.map_err(|error| error.to_string())?, begin })
    }

    /// Stops reading. What was read, and how long it took.
    pub(super) fn finish(self) -> Watched {
        // A thread that has ended needs no telling.
        let _ = self.stop.send(());
        let readings = self.thread.join().unwrap_or_default();
        Watched { readings, seconds: self.begin.elapsed().as_secs_f64() }
    }
}

/// Readings with their times since the first.
#[derive(Debug, Default)]
pub(super) struct Watched {
    readings: Vec<(Duration, Reading)>,
    seconds: f64,
}

impl Watched {
    /// How long it was watched.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Single numbers, by names with their units.
    pub(super) fn numbers(&self) -> BTreeMap<String, f64> {
        let mut numbers = BTreeMap::new();
        let mut put = |name: &str, value: Option<f64>| {
            if let Some(value) = value {
                numbers.insert(name.to_owned(), value);
            }
        };
        let clock = self.sorted(|reading| reading.sm_mhz);
        put("gpu_sm_mhz_min", clock.first().copied());
        put("gpu_sm_mhz_median", median(&clock));
        put("gpu_sm_mhz_max", clock.last().copied());
        put("gpu_memory_mhz_median", median(&self.sorted(|reading| reading.memory_mhz)));
        put("gpu_watts_max", self.sorted(|reading| reading.watts).last().copied());
        put("gpu_joules", self.over_time(|reading| reading.watts));
        put("gpu_celsius_max", self.sorted(|reading| reading.celsius).last().copied());
        let busy = self.over_time(|reading| reading.busy_percent);
        put("gpu_busy_percent", busy.filter(|_| self.span() > 0.0).map(|sum| sum / self.span()));
        put("gpu_memory_bytes_max", self.sorted(|reading| reading.memory_bytes).last().copied());
        put("gpu_throttled_seconds", self.slowed_seconds());
        numbers
    }

    /// Curves over the time since watching began, in milliseconds.
    pub(super) fn series(&self) -> BTreeMap<String, Series> {
        let curves: [(&str, Value); 6] = [
            (series::SM_MHZ, |reading| reading.sm_mhz),
            (series::MEMORY_MHZ, |reading| reading.memory_mhz),
            (series::WATTS, |reading| reading.watts),
            (series::CELSIUS, |reading| reading.celsius),
            (series::BUSY_PERCENT, |reading| reading.busy_percent),
            (series::MEMORY_BYTES, |reading| reading.memory_bytes),
        ];
        let curve = |value: Value| {
            let points = self.readings.iter().filter_map(|(at, reading)| {
                Some((u64::try_from(at.as_millis()).ok()?, value(reading)?))
            });
            series::ordered_and_thinned(points)
        };
        curves
            .into_iter()
            .map(|(name, value)| (name.to_owned(), curve(value)))
            .filter(|(_, points)| !points.is_empty())
            .collect()
    }

    /// Seconds for which each reason held, longest first. A reading counts until the next.
    pub(super) fn seconds_by_reason(&self) -> Vec<(Reason, f64)> {
        let mut seconds: BTreeMap<Reason, f64> = BTreeMap::new();
        for (reading, duration) in self.spans() {
            for reason in reading.reasons.iter().flatten() {
                *seconds.entry(*reason).or_default() += duration;
            }
        }
        let mut sorted: Vec<_> = seconds.into_iter().collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        sorted
    }

    /// Seconds in which anything but a clock that somebody set held it down; `None` where the GPU does
    /// not tell reasons.
    pub(super) fn slowed_seconds(&self) -> Option<f64> {
        self.readings.iter().any(|(_, reading)| reading.reasons.is_some()).then(|| {
            let slowed = |reading: &Reading| {
                let mut reasons = reading.reasons.iter().flatten();
                reasons.any(|reason| *reason != Reason::Setting)
            };
            self.spans().filter(|(reading, _)| slowed(reading)).map(|(_, seconds)| seconds).sum()
        })
    }

    /// Every process that computed there at some time.
    pub(super) fn processes(&self) -> BTreeSet<u32> {
        self.readings
            .iter()
            .flat_map(|(_, reading)| reading.processes.iter().flatten().copied())
            .collect()
    }

    /// Readings with the seconds until the next one.
    fn spans(&self) -> impl Iterator<Item = (&Reading, f64)> {
        self.readings.windows(2).map(|pair| {
            let [(from, reading), (to, _)] = pair else { unreachable!("windows of two") };
            (reading, to.saturating_sub(*from).as_secs_f64())
        })
    }

    /// Seconds from the first reading to the last.
    fn span(&self) -> f64 {
        self.spans().map(|(_, seconds)| seconds).sum()
    }

    /// The sum of value times seconds; `None` where no reading has the value.
    fn over_time(&self, value: impl Fn(&Reading) -> Option<f64>) -> Option<f64> {
        let known = self.readings.iter().any(|(_, reading)| value(reading).is_some());
        known.then(|| {
            self.spans().filter_map(|(reading, seconds)| Some(value(reading)? * seconds)).sum()
        })
    }

    fn sorted(&self, value: impl Fn(&Reading) -> Option<f64>) -> Vec<f64> {
        let mut values: Vec<f64> =
            self.readings.iter().filter_map(|(_, reading)| value(reading)).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

/// The middle of sorted values; of two middles the mean.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = if sorted.len().is_multiple_of(2) { &sorted[sorted.len() / 2 - 1] } else { upper };
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    /// Readings at these seconds.
    fn watched(readings: Vec<(f64, Reading)>) -> Watched {
        let at = |(seconds, reading)| (Duration::from_secs_f64(seconds), reading);
        Watched { readings: readings.into_iter().map(at).collect(), seconds: 4.0 }
    }

    fn reading(sm_mhz: f64, watts: f64, reasons: &[Reason], processes: &[u32]) -> Reading {
        Reading {
            sm_mhz: Some(sm_mhz),
            watts: Some(watts),
            reasons: Some(reasons.to_vec()),
            processes: Some(processes.to_vec()),
            ..Reading::default()
        }
    }

    #[test]
    fn readings_are_summed_up_by_the_time_for_which_they_held() {
        let watched = watched(vec![
            (0.0, reading(300.0, 100.0, &[], &[7])),
            (1.0, reading(1980.0, 700.0, &[Reason::PowerCap], &[7, 8])),
            (3.0, reading(1700.0, 650.0, &[Reason::PowerCap, Reason::Thermal], &[7])),
            (3.5, reading(1900.0, 500.0, &[Reason::Setting], &[])),
            (4.0, reading(1980.0, 400.0, &[Reason::Hardware], &[])),
        ]);
        let numbers = watched.numbers();
        let expected = [
            ("gpu_sm_mhz_min", 300.0),
            ("gpu_sm_mhz_median", 1900.0),
            ("gpu_sm_mhz_max", 1980.0),
            ("gpu_watts_max", 700.0),
            ("gpu_joules", 100.0 + 1400.0 + 325.0 + 250.0),
            ("gpu_throttled_seconds", 2.5),
        ];
        assert_eq!(numbers, BTreeMap::from(expected.map(|(name, value)| (name.into(), value))));
        // The last reading holds for no time.
        let reasons = [(Reason::PowerCap, 2.5), (Reason::Thermal, 0.5), (Reason::Setting, 0.5)];
        assert_eq!(watched.seconds_by_reason(), reasons);
        assert_eq!(watched.processes(), BTreeSet::from([7, 8]));
        let series = watched.series();
        assert_eq!(series.keys().collect::<Vec<_>>(), [series::SM_MHZ, series::WATTS]);
        assert_eq!(series[series::SM_MHZ][1], (1000, 1980.0));
    }

    #[test]
    fn what_a_gpu_does_not_tell_is_left_out() {
        assert!(watched(Vec::new()).numbers().is_empty());
        let silent = watched(vec![(0.0, Reading::default()), (1.0, Reading::default())]);
        assert!(silent.numbers().is_empty() && silent.series().is_empty());
        assert_eq!(silent.slowed_seconds(), None);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
    }

    #[test]
    fn the_thread_reads_until_it_is_stopped() {
        struct Counter(Arc<AtomicUsize>);
        impl Gauge for Counter {
            fn read(&mut self) -> Reading {
                let count = self.0.fetch_add(1, Ordering::Relaxed);
                Reading { watts: Some(count as f64), ..Reading::default() }
            }
        }
        let count = Arc::new(AtomicUsize::new(0));
        let watch = Watch::start(Counter(Arc::clone(&count))).unwrap();
        while count.load(Ordering::Relaxed) < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let watched = watch.finish();
        let count = count.load(Ordering::Relaxed);
        assert_eq!(watched.readings.len(), count);
        assert_eq!(watched.numbers()["gpu_watts_max"], (count - 1) as f64);
        assert!(watched.seconds() > 0.0);
    }
}
