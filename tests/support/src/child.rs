//! Processes that end with their test, and what they said.
//!
//! Output goes to files, not pipes: nothing blocks when nobody reads, and a failed test can show the ends of them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait;

/// A running process with both outputs in files. Killed when dropped.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: Process,
    /// What it wrote to stdout.
    pub stdout: Log,
    /// What it wrote to stderr.
    pub stderr: Log,
}

impl Child {
    /// Starts `command`; outputs go to `<dir>/<name>.out` and `<dir>/<name>.err`. stdin is as the caller set it, or empty.
    pub fn start(dir: &Path, name: &str, command: &mut Command) -> Self {
        let stdout = Log { path: dir.join(format!("{name}.out")) };
        let stderr = Log { path: dir.join(format!("{name}.err")) };
        command.stdout(File::create(&stdout.path).unwrap()).stderr(File::create(&stderr.path).unwrap());
        let process = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { name: name.to_owned(), process, stdout, stderr }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The running process, for its stdin.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Waits for its end; None when it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait::within(limit, || self.process.try_wait().unwrap())
    }

    /// Waits until it has printed `text` on stdout; panics when it ends before that.
    pub fn wait_for(&mut self, text: &str) {
        let name = self.name.clone();
        wait::until(&format!("{name} to print {text:?}"), wait::SOON, || {
            if self.stdout.text().contains(text) {
                return Some(());
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("{name} ended with {status}: {}", self.stderr.text());
            }
            None
        });
    }

    /// Ends it now, without ceremony.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let ended = self.process.try_wait().ok().flatten();
        self.kill();
        if std::thread::panicking() {
            if let Some(status) = ended {
                eprintln!("--- {} had ended by itself: {status}", self.name);
            }
            for (stream, log) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
                eprintln!("--- {} {stream}, the end of it:\n{}", self.name, log.tail(40));
            }
        }
    }
}

/// Sends a signal by name to a process.
pub fn signal(id: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().unwrap();
    assert!(status.success(), "no process {id} to send {name} to");
}

/// A file that a process writes its output to.
#[derive(Debug, Clone)]
pub struct Log {
    /// Where it is.
    pub path: PathBuf,
}

impl Log {
    /// All of it so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.path).unwrap_or_default()).into_owned()
    }

    /// Its whole lines so far; a line still being written is left out.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let text = self.text();
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or(""));
        whole.lines().map(str::to_owned).collect()
    }

    /// Waits for a line that `fits` and gives it.
    pub fn wait_for_line(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        wait::until(&format!("a line with {what} in {}", self.path.display()), wait::SOON, || {
            self.lines().into_iter().find(|line| fits(line))
        })
    }

    /// Its last lines.
    #[must_use]
    pub fn tail(&self, count: usize) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// Runs a command to its end, gives its output, and panics with all of it unless it succeeded.
pub fn run(command: &mut Command) -> String {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        panic!("{command:?} ended with {}\n{stdout}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    stdout
}

/// Runs a command to its end with `input` on stdin, gives its stdout, and panics unless it succeeded.
pub fn run_with_input(command: &mut Command, input: &str) -> String {
    use std::io::Write;
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?} ended with {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
