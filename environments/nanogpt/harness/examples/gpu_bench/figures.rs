//! What a training run comes to. `bench_torch.py` prints the same keys.

use forerunner_nanogpt_protocol::{Collect, Device, Snapshot};
use serde_json::{Value, json};

use super::Result;
use super::arguments::Arguments;
use super::text::Text;
use super::trainer::Run;

/// Steps whose sections bear this in their name are no part of the split.
const WARMING_UP: &str = "warm-up";

/// The JSON object.
pub(crate) fn figures(arguments: &Arguments, text: &Text, run: &Run) -> Result<Value> {
    let warm_up = arguments.warm_up;
    let counted = run.stamps.get(warm_up..).unwrap_or_default();
    let (Some(first), Some(last)) = (counted.first(), counted.last()) else {
        return Err(
            format!("{} steps leave none after a warm-up of {warm_up}", run.stamps.len()).into()
        );
    };
    let n_steps = counted.len() - 1;
    if n_steps == 0 {
        return Err(
            format!("{} steps leave none after a warm-up of {warm_up}", run.stamps.len()).into()
        );
    }
    let steps: Vec<f64> = counted.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    let step_seconds = (last.0 - first.0) / n_steps as f64;
    let host_seconds = (last.1 - first.1) / n_steps as f64;
    let (batch, length) = (run.request.batch, run.request.length);
    let tokens_per_second = f64::from(batch) * f64::from(length) / step_seconds;
    let flops = flops_per_token(&run.initial, length as usize)?;
    let device = run.summary.device.clone().unwrap_or_default();
    let of_steps = |count: u64| count as f64 / run.stamps.len() as f64;
    let kernels: Vec<Value> = run
        .summary
        .operations
        .iter()
        .map(
            |kernel| json!({"name": kernel.name, "calls": kernel.calls, "seconds": kernel.seconds}),
        )
        .collect();
    Ok(json!({
        "name": arguments.name,
        "device": run.report.as_ref().map_or("CPU", |report| &report.name),
        "driver": run.report.as_ref().map(|report| &report.driver),
        "data": text.name(),
        "collect": match arguments.collect {
            Collect::All => "all",
            Collect::Steady => "steady",
            Collect::Nothing => "nothing",
        },
        "seed": arguments.seed,
        "batch": batch,
        "length": length,
        "steps": run.stamps.len(),
        "warm_up": warm_up,
        "start_seconds": run.start_seconds,
        "parameters": run.initial.count(),
        "flops_per_token": flops,
        "tokens_per_second": tokens_per_second,
        "step_ms": {
            "mean": 1e3 * step_seconds,
            "median": 1e3 * quantile(&steps, 0.5),
            "p10": 1e3 * quantile(&steps, 0.1),
            "p90": 1e3 * quantile(&steps, 0.9),
            "min": 1e3 * quantile(&steps, 0.0),
            "of": "wall, from request to request; a program queues ahead, so single steps vary",
        },
        "split_ms": split(run, arguments.device),
        "host_cpu_ms": number(1e3 * host_seconds),
        "launches_per_step": of_steps(device.launches),
        "counted_flops_per_step": run.summary.flops / run.stamps.len() as f64,
        "peak_bytes": device.peak_bytes,
        "matmul_flops_per_second": arguments.matmul_rate,
        "warm_up_matmul_flops_per_second":
            run.report.as_ref().map(|report| report.matmul_flops_per_second),
        "mfu": arguments.matmul_rate.map(|rate| tokens_per_second * flops / rate),
        "losses": run.losses,
        "kernels": kernels,
        "kernels_timed_by": device.timed_by,
        "graphs": device.graphs,
    }))
}

/// Floating-point operations of training on one token: `6 N + 12 L C T` (Chowdhery et al. 2022, PaLM,
/// appendix B), where `N` counts what takes part in matrix products: all parameters but the positions,
/// the table of tokens once, since it is the head too. The mask of attention is not subtracted, and
/// nothing that is computed twice is counted twice: it is a yardstick, the same for everybody.
fn flops_per_token(parameters: &Snapshot, length: usize) -> Result<f64> {
    let specs = parameters.specs();
    let table = specs.iter().find(|spec| spec.name == "token_embedding");
    let Some([_, width]) = table.map(|spec| &*spec.shape) else {
        return Err("the program has no parameter `token_embedding` (rows, width)".into());
    };
    let layers = specs.iter().filter(|spec| spec.name.ends_with(".qkv.weight")).count();
    let positions = specs.iter().filter(|spec| spec.name == "position_embedding");
    let positions: usize = positions.filter_map(|spec| spec.count()).sum();
    let in_products = parameters.count() - positions;
    Ok(6.0 * in_products as f64 + (12 * layers * width * length) as f64)
}

/// Milliseconds a step in each section, and in none.
fn split(run: &Run, device: Device) -> Value {
    let counted = run.summary.sections.iter().filter(|section| !section.name.contains(WARMING_UP));
    let of_each = counted.map(|section| {
        let milliseconds = 1e3 * section.cpu_seconds / section.calls.max(1) as f64;
        (section.name.clone(), json!(milliseconds))
    });
    let mut split: serde_json::Map<String, Value> = of_each.collect();
    let by = match device {
        Device::Cuda => "the device's events",
        Device::Cpu => "CPU time",
    };
    split.insert("by".to_owned(), json!(by));
    Value::Object(split)
}

/// The value that so large a share is not above.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = share * (sorted.len().saturating_sub(1)) as f64;
    sorted.get(at.round() as usize).copied().unwrap_or(f64::NAN)
}

/// JSON knows no NaN.
fn number(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { Value::Null }
}
