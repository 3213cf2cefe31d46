//! The real binary as a child process: started, asked, stopped kindly, or killed between two instructions.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;

use super::push::Pusher;
use super::{TestResult, note, wait_for};

const START: Duration = Duration::from_secs(60);
// Long enough for what is told from time to time, on a machine that has much else to do.
const TOLD: Duration = Duration::from_secs(60);
// Cloud Run gives 10 s between SIGTERM and SIGKILL.
const STOP: Duration = Duration::from_secs(10);
// Shorter than the time after which the server gives up a body that does not come.
const COUNTED: Duration = Duration::from_secs(20);

/// A running server. Dropping it kills it and keeps its log for the failure that may be under way.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: Log,
    pusher: Pusher,
    url: String,
}

impl Server {
    /// Starts `landfast dev` on the folder and a free port, and waits until it is ready.
    pub async fn dev(dir: &Path) -> TestResult<Self> {
        let mut command = landfast(["dev", "--listen", "127.0.0.1:0", "--dir"]);
        command.arg(dir);
        Self::start(command).await
    }

    /// Starts `landfast serve` with the configuration, which should listen on `127.0.0.1:0`, and waits until it is ready.
    pub async fn serve(config: &Path) -> TestResult<Self> {
        let mut command = landfast(["serve", "--config"]);
        command.arg(config);
        Self::start(command).await
    }

    /// Starts any command that prints `listening on http://HOST:PORT` and answers `/health/ready`.
    pub async fn start(mut command: Command) -> TestResult<Self> {
        let log = Log::new()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.output()?)
            .stderr(log.output()?)
            .spawn()?;
        let mut server = Self {
            child,
            log,
            pusher: Pusher::new(""),
            url: String::new(),
        };
        let address = wait_for("the server to print its address", START, async || {
            let exit = || server.child.try_wait().transpose().map(Err);
            server.log.address().map(Ok).or_else(exit)
        });
        match address.await? {
            Ok(url) => server.url = url,
            Err(exit) => return Err(format!("The server did not listen: {}", exit?).into()),
        }
        server.pusher = Pusher::new(&server.url);
        wait_for("the server to be ready", START, async || {
            server
                .pusher
                .get("/health/ready")
                .await
                .ok()
                .filter(|(status, _)| *status == 200)
        })
        .await?;
        Ok(server)
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The base address, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client of this server.
    pub fn pusher(&self) -> Pusher {
        self.pusher.clone()
    }

    /// What it has printed so far, on stdout and stderr.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until it has printed all of `texts`.
    pub async fn logged(&self, texts: &[&str]) -> TestResult {
        wait_for(&format!("the log to hold {texts:?}"), TOLD, async || {
            let log = self.log();
            texts.iter().all(|text| log.contains(text)).then_some(())
        })
        .await
    }

    /// The sum of a metric's samples over their labels; 0 when it has none.
    pub async fn metric(&self, name: &str) -> TestResult<f64> {
        let (_, text) = self.pusher.get("/metrics").await?;
        Ok(text.lines().filter_map(|line| sample(line, name)).sum())
    }

    /// Waits until a metric's samples come to `expected`: what is counted after an answer is there a moment later.
    pub async fn metric_is(&self, name: &str, expected: f64) -> TestResult {
        let mut last = None;
        let counted = wait_for("a count", COUNTED, async || {
            last = self.metric(name).await.ok();
            (last == Some(expected)).then_some(())
        });
        counted
            .await
            .map_err(|_late| format!("{name} is {last:?}, not {expected}").into())
    }

    /// SIGKILL: no instruction of it runs after this returns.
    pub fn kill(&mut self) -> TestResult {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, as Cloud Run sends it.
    pub fn terminate(&self) -> TestResult {
        self.signal("TERM")
    }

    /// SIGINT, as Ctrl-C sends it.
    pub fn interrupt(&self) -> TestResult {
        self.signal("INT")
    }

    fn signal(&self, name: &str) -> TestResult {
        let sent = Command::new("sh")
            .args(["-c", "kill -\"$0\" \"$1\"", name])
            .arg(self.child.id().to_string())
            .status()?;
        if sent.success() {
            Ok(())
        } else {
            Err(format!("SIG{name} was not sent.").into())
        }
    }

    /// The most memory it has used, in bytes; none where the system does not tell.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kibibytes * 1024)
    }

    /// Waits at most 10 s for it to exit of its own.
    pub async fn exited(&mut self) -> TestResult<ExitStatus> {
        wait_for("the server to exit", STOP, async || {
            self.child.try_wait().transpose()
        })
        .await?
        .map_err(Into::into)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A failure only says that it is gone already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        note(&format!("Server log:\n{}", self.log.text()));
    }
}

/// The binary with arguments, and without what the environment would tell it.
pub fn landfast(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfast"));
    command.args(arguments).env_remove("PORT").env_remove("RUST_LOG");
    command
}

/// Runs the binary to its end; gives the exit code, stdout and stderr.
pub fn run(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> TestResult<(Option<i32>, String, String)> {
    let output = landfast(arguments).stdin(Stdio::null()).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

/// The value of a Prometheus sample line, if it is of this metric.
fn sample(line: &str, name: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let labelled = rest.starts_with('{') && rest.contains("} ");
    let value = if labelled {
        rest.rsplit_once("} ")?.1
    } else {
        rest.strip_prefix(' ')?
    };
    value.split(' ').next()?.parse().ok()
}

/// What a process prints, in a file: what it printed before an answer is there when the answer is.
#[derive(Debug)]
struct Log(NamedTempFile);

impl Log {
    fn new() -> TestResult<Self> {
        Ok(Self(NamedTempFile::new()?))
    }

    /// Where an output goes; each line is added to the end.
    fn output(&self) -> TestResult<Stdio> {
        let file = OpenOptions::new().append(true).open(self.0.path())?;
        Ok(file.into())
    }

    fn text(&self) -> String {
        let bytes = std::fs::read(self.0.path()).expect("the log is a file of ours");
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }

    fn address(&self) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once("listening on http://")?;
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && !".:[]-".contains(c))
            .unwrap_or(rest.len());
        rest.get(..end).map(|authority| format!("http://{authority}"))
    }
}
