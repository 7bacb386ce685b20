//! The command line.

/// Wrong arguments.
pub(crate) const USAGE: u8 = 2;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Trusted work on one NVIDIA GPU for whoever measures programs there.

Usage: forerunner-gpu COMMAND [--json] [--device N]

Commands:
  probe    what the GPU is: name, UUID, memory, multiprocessors, driver, clocks
  scrub    take all free memory of the GPU, overwrite it with zeros, let it go
  matmul   the rate of bfloat16 matrix products (8192 x 8192 x 8192, random numbers)

Options:
  --json       one JSON object on one line instead of `key: value` lines
  --device N   CUDA's number of the GPU, from 0 on (0); CUDA_VISIBLE_DEVICES is obeyed
  -h, --help   this text

Exit codes:
  0   done
  2   wrong arguments
  69  no driver, or no GPU that could be used
  70  the GPU failed

Examples:
  forerunner-gpu probe
  forerunner-gpu matmul --json
  CUDA_VISIBLE_DEVICES=GPU-5c1f0e0a-… forerunner-gpu scrub
";

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Probe,
    Scrub,
    Matmul,
}

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) device: usize,
    pub(crate) json: bool,
}

/// Reads the arguments; `None` when help is asked for.
pub(crate) fn parse(arguments: &[String]) -> Result<Option<Request>, String> {
    let mut command = None;
    let (mut device, mut json) = (0, false);
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument {
            "-h" | "--help" | "help" => return Ok(None),
            "--json" => json = true,
            "--device" => {
                let value = rest.next().ok_or("`--device` needs a number")?;
                device =
                    value.parse().map_err(|_| format!("`{value}` is not a device's number"))?;
            }
            name => {
                let known = match name {
                    "probe" => Command::Probe,
                    "scrub" => Command::Scrub,
                    "matmul" => Command::Matmul,
                    _ => {
                        return Err(format!(
                            "unknown argument `{name}` (known: probe, scrub, matmul)"
                        ));
                    }
                };
                if command.replace(known).is_some() {
                    return Err(format!("`{name}` is a second command"));
                }
            }
        }
    }
    let command = command.ok_or("no command (known: probe, scrub, matmul)")?;
    Ok(Some(Request { command, device, json }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<Option<Request>, &str>) {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        assert_eq!(parse(&arguments), expected.map_err(str::to_owned), "{line}");
    }

    #[test]
    fn arguments_are_read_in_any_order() {
        let request = |command, device, json| Ok(Some(Request { command, device, json }));
        check("probe", request(Command::Probe, 0, false));
        check("--json --device 3 scrub", request(Command::Scrub, 3, true));
        check("matmul --help", Ok(None));
        check("", Err("no command (known: probe, scrub, matmul)"));
        check("prob", Err("unknown argument `prob` (known: probe, scrub, matmul)"));
        check("probe scrub", Err("`scrub` is a second command"));
        check("probe --device", Err("`--device` needs a number"));
        check("probe --device x", Err("`x` is not a device's number"));
    }

    #[test]
    fn examples_of_the_help_are_commands() {
        let examples = HELP.split("Examples:").nth(1).unwrap();
        for line in examples.lines().filter(|line| !line.trim().is_empty()) {
            let (_, arguments) = line.split_once("forerunner-gpu").unwrap();
            let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
            assert!(matches!(parse(&arguments), Ok(Some(_))), "{line}");
        }
    }
}
