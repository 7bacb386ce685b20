//! The trusted program that works on the GPU for us, `forerunner-gpu`: it overwrites device memory and
//! measures the rate of matrix products. A process of its own, so that neither the host nor a plugin
//! ever loads CUDA.

use crate::config::installed;
use forerunner_core::{Error, Host, Result};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    ffi::OsString,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Where an installation has it.
const PROGRAM: &str = "bin/forerunner-gpu";
/// It takes a second or two, of which starting CUDA is the most.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked after.
const PERIOD: Duration = Duration::from_millis(20);
/// Most bytes of its answer; it gives a few hundred.
const ANSWER_BYTES: u64 = 1 << 16;

/// The program, for one GPU.
#[derive(Debug, Clone)]
pub(super) struct Helper {
    program: PathBuf,
    environment: Vec<(String, String)>,
    patience: Duration,
}

/// What overwriting device memory came to; the answer of `forerunner-gpu scrub --json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Scrubbed {
    /// Bytes that were overwritten: all that could be had.
    pub(super) bytes: u64,
    /// Bytes of the device.
    pub(super) total_bytes: u64,
    /// Seconds that it took, the start of CUDA left out.
    pub(super) seconds: f64,
}

/// The rate of matrix products; of the answer of `forerunner-gpu matmul --json` what is used.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Rate {
    flops_per_second: f64,
}

impl Helper {
    /// The program named by FORERUNNER_GPU_HELPER, or the installation's.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(super) fn find(environment: Vec<(String, String)>) -> Result<Self, String> {
        let named = std::env::var_os("FORERUNNER_GPU_HELPER").map(PathBuf::from);
        let program = named.or_else(|| installed(Path::new(PROGRAM)));
        let program = program.ok_or_else(|| {
            format!("`{PROGRAM}` is not installed (`cargo xtask install --cuda`)")
        })?;
        Ok(Self { program, environment, patience: PATIENCE })
    }

    /// Takes all free memory of the GPU, overwrites it and lets it go. The inner error says in words
    /// why that did not work.
    ///
    /// # Errors
    /// [`Error::Cancelled`] alone.
    pub(super) fn scrub(&self, host: &dyn Host) -> Result<Result<Scrubbed, String>> {
        self.ask("scrub", host)
    }

    /// Measures bfloat16 matrix products, in floating-point operations per second.
    ///
    /// # Errors
    /// [`Error::Cancelled`] alone.
    pub(super) fn matmul(&self, host: &dyn Host) -> Result<Result<f64, String>> {
        let rate = self.ask::<Rate>("matmul", host)?;
        Ok(rate.map(|rate| rate.flops_per_second))
    }

    fn ask<T: DeserializeOwned>(
        &self,
        command: &str,
        host: &dyn Host,
    ) -> Result<Result<T, String>> {
        let mut child = match self.start(command) {
            Ok(child) => Killed(child),
            Err(error) => {
                return Ok(Err(format!("`{}` does not start: {error}", self.program.display())));
            }
        };
        let begin = Instant::now();
        let status = loop {
            match child.0.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(error) => return Ok(Err(error.to_string())),
            }
            if host.cancelled() {
                return Err(Error::Cancelled);
            }
            if begin.elapsed() > self.patience {
                let seconds = self.patience.as_secs();
                return Ok(Err(format!("`{command}` did not end within {seconds} seconds")));
            }
            std::thread::sleep(PERIOD);
        };
        let answer = read(child.0.stdout.take());
        if !status.success() {
            let said = read(child.0.stderr.take());
            let line = said.lines().next().unwrap_or("it says nothing").to_owned();
            return Ok(Err(format!("`{command}` failed ({status}): {line}")));
        }
        let parsed = serde_json::from_str(&answer);
        Ok(parsed
            .map_err(|error| format!("`{command}` gave an answer of another version: {error}")))
    }

    fn start(&self, command: &str) -> std::io::Result<Child> {
        let arguments = [command, "--json"].map(OsString::from);
        Command::new(&self.program)
            .args(arguments)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }
}

/// A process that does not outlive us.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It has ended already, or is not waited for any longer.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(pipe: Option<impl Read>) -> String {
    let mut text = Vec::new();
    let _ = pipe.map(|pipe| pipe.take(ANSWER_BYTES).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_core::NoHost;
    use std::os::unix::fs::PermissionsExt;

    /// A helper that is a shell script. Given to the shell by name: a file that was just written
    /// cannot always be executed while other tests start processes.
    fn script(text: &str) -> (tempfile::TempDir, Helper) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("helper");
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let environment = vec![("CUDA_VISIBLE_DEVICES".to_owned(), "GPU-7".to_owned())];
        (folder, Helper { program, environment, patience: Duration::from_secs(20) })
    }

    fn ask(text: &str) -> Result<Scrubbed, String> {
        let (_folder, helper) = script(text);
        loop {
            match helper.scrub(&NoHost).unwrap() {
                // Another test forked while the script was still open for writing.
                Err(reason) if reason.contains("Text file busy") => {}
                other => return other,
            }
        }
    }

    #[test]
    fn an_answer_is_understood() {
        let answer = r#"[ "$*" = "scrub --json" ] && [ $CUDA_VISIBLE_DEVICES = GPU-7 ] || exit 1
            echo '{"bytes": 90, "total_bytes": 100, "seconds": 0.5, "gpu": "x"}'"#;
        let expected = Scrubbed { bytes: 90, total_bytes: 100, seconds: 0.5 };
        assert_eq!(ask(answer), Ok(expected));
    }

    #[test]
    fn whatever_goes_wrong_is_said() {
        let failed = ask("echo 'no usable GPU: none' >&2; echo 'hint: x' >&2; exit 69");
        let expected = "`scrub` failed (exit status: 69): no usable GPU: none";
        assert_eq!(failed.unwrap_err(), expected);
        assert!(ask("echo {}").unwrap_err().contains("answer of another version"));
        let nowhere = Helper {
            program: "/nowhere/forerunner-gpu".into(),
            environment: Vec::new(),
            patience: PATIENCE,
        };
        let reason = nowhere.scrub(&NoHost).unwrap().unwrap_err();
        assert!(reason.contains("`/nowhere/forerunner-gpu` does not start"), "{reason}");
        let (_folder, mut slow) = script("exec sleep 1000");
        slow.patience = Duration::from_millis(50);
        let reason = loop {
            let reason = slow.scrub(&NoHost).unwrap().unwrap_err();
            if !reason.contains("Text file busy") {
                break reason;
            }
        };
        assert!(reason.contains("did not end within"), "{reason}");
    }
}
