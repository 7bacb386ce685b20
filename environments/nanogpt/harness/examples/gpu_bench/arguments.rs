//! The command line.

use std::path::PathBuf;

use forerunner_nanogpt_protocol::{Collect, Device};

use super::Result;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
How fast a compiled NanoGPT program trains; prints one JSON object.

  --program FILE       the program, as a search compiles it
  --data PATH          a token file, or a folder with a `*train*.bin` [random tokens]
  --weights FILE       write the initial parameters there (safetensors, f32, bf16-rounded)
  --collect WHAT       steady: sections and losses; all: norms and a table of kernels too [steady]
  --warm-up N          steps that are not counted [20]
  --matmul-rate FLOPS  rate that 100 % utilisation means, in operations per second
  --device NAME        cuda or cpu [cuda]
  --seed N             of the initial parameters [1]
  --vocab N            token values [50257]
  --context N          positions of the model [1024]
  --name NAME          what the result is called [harness]
";

/// What is measured, and how.
pub(crate) struct Arguments {
    pub(crate) program: PathBuf,
    pub(crate) data: Option<PathBuf>,
    pub(crate) weights: Option<PathBuf>,
    pub(crate) collect: Collect,
    pub(crate) warm_up: usize,
    pub(crate) matmul_rate: Option<f64>,
    pub(crate) device: Device,
    pub(crate) seed: u64,
    pub(crate) vocab: usize,
    pub(crate) context: usize,
    pub(crate) name: String,
}

impl Arguments {
    pub(crate) fn parse(given: &[String]) -> Result<Self> {
        let mut arguments = Self {
            program: PathBuf::new(),
            data: None,
            weights: None,
            collect: Collect::Steady,
            warm_up: 20,
            matmul_rate: None,
            device: Device::Cuda,
            seed: 1,
            vocab: 50_257,
            context: 1024,
            name: "harness".to_owned(),
        };
        let mut rest = given.iter();
        while let Some(option) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("`{option}` needs a value"))?;
            match option.as_str() {
                "--program" => arguments.program = value.into(),
                "--data" => arguments.data = Some(value.into()),
                "--weights" => arguments.weights = Some(value.into()),
                "--collect" => arguments.collect = collect(value)?,
                "--warm-up" => arguments.warm_up = value.parse()?,
                "--matmul-rate" => arguments.matmul_rate = Some(value.parse()?),
                "--device" => arguments.device = device(value)?,
                "--seed" => arguments.seed = value.parse()?,
                "--vocab" => arguments.vocab = value.parse()?,
                "--context" => arguments.context = value.parse()?,
                "--name" => arguments.name.clone_from(value),
                _ => return Err(format!("unknown option `{option}`\nhint: see --help").into()),
            }
        }
        if arguments.program.as_os_str().is_empty() {
            return Err("`--program` is missing\nhint: see --help".into());
        }
        Ok(arguments)
    }
}

fn collect(value: &str) -> Result<Collect> {
    match value {
        "all" => Ok(Collect::All),
        "steady" => Ok(Collect::Steady),
        _ => Err(format!("unknown collection `{value}` (known: steady, all)").into()),
    }
}

fn device(value: &str) -> Result<Device> {
    match value {
        "cuda" => Ok(Device::Cuda),
        "cpu" => Ok(Device::Cpu),
        _ => Err(format!("unknown device `{value}` (known: cuda, cpu)").into()),
    }
}
