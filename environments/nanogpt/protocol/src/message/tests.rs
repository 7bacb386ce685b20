//! Every message through a pipe.

use super::*;
use crate::Spec;

fn snapshot() -> Snapshot {
    let spec = Spec { name: "w".into(), shape: vec![2] };
    Snapshot::round([(spec, [1.0, 2.0].as_slice())]).unwrap()
}

#[test]
fn every_message_to_a_program_survives_the_pipe() {
    let start = Start {
        version: crate::VERSION,
        track: "cpu".into(),
        seed: u64::MAX,
        vocab: 256,
        context: 64,
        max_parameters: 1000,
        limits: Limits { cpu_seconds: 60.0, memory_bytes: 1 << 30, batch_tokens: 1 << 20 },
        collect: Collect::All,
        device: Device::Cuda,
        custom_kernels: true,
    };
    let windows = Windows { batch: 2, length: 3, tokens: vec![7; 6] };
    for message in [
        FromSupervisor::Start(start),
        FromSupervisor::Go(u64::MAX - 1),
        FromSupervisor::Score(windows.clone()),
        FromSupervisor::Rows(Rows { windows, positions: vec![0, 2] }),
        FromSupervisor::Tokens(vec![0, 255, 50_256]),
        FromSupervisor::Peek,
        FromSupervisor::Parameters(snapshot()),
        FromSupervisor::Windows(Windows { batch: 2, length: 3, tokens: vec![7; 6] }),
        FromSupervisor::LossCase(LossCase {
            rows: 1,
            vocab: 2,
            logits: vec![0.5, -0.5],
            targets: vec![1],
        }),
        FromSupervisor::Stop,
    ] {
        let mut pipe = Vec::new();
        message.write(&mut pipe).unwrap();
        assert_eq!(FromSupervisor::read(&mut pipe.as_slice()).unwrap(), message);
    }
}

#[test]
fn every_message_from_a_program_survives_the_pipe() {
    let section =
        Section { name: "forward".into(), calls: 3, cpu_seconds: 0.5, bytes: 28, flops: 9 };
    let operation =
        Operation { name: "adamw".into(), calls: 3, seconds: 0.1, bytes: 28, flops: u64::MAX };
    for message in [
        FromProgram::Batch(BatchRequest { batch: 8, length: 64 }),
        FromProgram::Record(Record { series: "loss".into(), step: 4, value: 0.1 }),
        FromProgram::Checkpoint(snapshot()),
        FromProgram::Summary(Summary {
            sections: vec![section],
            operations: vec![operation],
            flops: 1e12,
            parameters: 2,
            allocations: Some(Allocations { count: 1, bytes: u64::MAX, peak_bytes: 3 }),
            gradients: 130,
            device: Some(DeviceUse {
                peak_bytes: 7,
                seconds: 0.5,
                launches: 3,
                timed_by: "events".into(),
                graphs: "1 captured".into(),
            }),
        }),
        FromProgram::Ready(DeviceReport {
            name: "H".into(),
            memory_bytes: u64::MAX,
            driver: "13.0".into(),
            multiprocessors: 132,
            matmul_flops_per_second: 7e14,
        }),
        FromProgram::Losses(vec![0.5, 7.0]),
        FromProgram::Snapshot(snapshot()),
        FromProgram::Logits(vec![1.5, f32::NEG_INFINITY]),
        FromProgram::Loss(LossAnswer { value: 1.5, gradient: vec![-0.5, 0.5] }),
    ] {
        let mut pipe = Vec::new();
        message.write(&mut pipe).unwrap();
        assert_eq!(FromProgram::read(&mut pipe.as_slice(), 1 << 20).unwrap(), message);
    }
}

#[test]
fn a_record_of_infinity_arrives_as_nan() {
    let mut pipe = Vec::new();
    let record = Record { series: "loss".into(), step: 0, value: f64::INFINITY };
    FromProgram::Record(record).write(&mut pipe).unwrap();
    let FromProgram::Record(back) = FromProgram::read(&mut pipe.as_slice(), 1000).unwrap() else {
        panic!("a record was written");
    };
    assert!(back.value.is_nan());
}

#[test]
fn a_summary_of_an_older_harness_is_read() {
    let mut pipe = Vec::new();
    let text =
        br#"{"sections":[{"name":"data","calls":1,"cpu_seconds":0.5}],"flops":1.0,"parameters":2}"#;
    write_frame(&mut pipe, SUMMARY, &[text]).unwrap();
    let FromProgram::Summary(summary) = FromProgram::read(&mut pipe.as_slice(), 1000).unwrap()
    else {
        panic!("a summary was written");
    };
    let section = Section { name: "data".into(), calls: 1, cpu_seconds: 0.5, bytes: 0, flops: 0 };
    let sections = vec![section];
    assert_eq!(summary, Summary { sections, flops: 1.0, parameters: 2, ..Summary::default() });
}

/// What CPU tracks say has not changed, so neither has the version.
#[test]
fn nothing_is_said_about_a_device_on_the_cpu() {
    let text = concat!(
        r#"{"version":1,"track":"cpu","seed":3,"vocab":256,"context":64,"max_parameters":9,"#,
        r#""limits":{"cpu_seconds":1.0,"memory_bytes":2,"batch_tokens":3},"collect":"all"}"#
    );
    let start: Start = serde_json::from_str(text).unwrap();
    assert_eq!((start.device, start.custom_kernels), (Device::Cpu, false));
    assert_eq!(serde_json::to_string(&start).unwrap(), text);
    let summary = serde_json::to_string(&Summary::default()).unwrap();
    assert!(!summary.contains("device"), "{summary}");
    assert_eq!(crate::VERSION, 1);
}

#[test]
fn positions_are_inside_their_windows() {
    let windows = Windows { batch: 2, length: 3, tokens: vec![7; 6] };
    let check = |positions: Vec<u32>, expected: &str| {
        let mut pipe = Vec::new();
        let rows = Rows { windows: windows.clone(), positions };
        FromSupervisor::Rows(rows).write(&mut pipe).unwrap();
        let error = FromSupervisor::read(&mut pipe.as_slice()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(vec![0, 3], "position 3 in windows of 3");
    check(vec![0], "position 458759 in windows of 3");
    check(vec![0, 1, 2], "8 tokens for 2 x 3");
    let mut pipe = Vec::new();
    write_frame(&mut pipe, GO, &[b"seven"]).unwrap();
    let error = FromSupervisor::read(&mut pipe.as_slice()).unwrap_err().to_string();
    assert!(error.contains("5 bytes hold no seed"), "{error}");
}

#[test]
fn nonsense_from_a_program_is_an_error() {
    let check = |kind: u8, payload: &[u8], expected: &str| {
        let mut pipe = Vec::new();
        write_frame(&mut pipe, kind, &[payload]).unwrap();
        let error = FromProgram::read(&mut pipe.as_slice(), 100).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(0, b"", "kind 0 is unknown");
    check(START, b"{}", "kind 1 is unknown on this side");
    check(BATCH, b"abc", "frame `batch` is malformed: it ends before two numbers");
    check(BATCH, b"abcdefghi", "more than two numbers");
    check(RECORD, b"{\"series\":3}", "frame `record` is malformed");
    check(LOGITS, b"abcde", "not a whole number");
    check(LOSSES, b"abcde", "frame `losses` is malformed: not a whole number");
    check(READY, b"{}", "frame `ready` is malformed");
    check(GO, b"abcdefgh", "kind 15 is unknown on this side");
    check(SNAPSHOT, b"", "frame `snapshot` is malformed");
    check(LOGITS, &[0; 104], "announces 104 bytes, more than the limit of 100");
}
