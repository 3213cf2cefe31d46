//! A disk that is small enough to be full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Stop, TestResult};

/// A small file system of its own; unmounted when dropped.
#[derive(Debug)]
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts one of a size on a folder. Ends the test as ignored where that is not allowed.
    pub fn new(folder: PathBuf, size: &str) -> TestResult<Self> {
        fs::create_dir_all(&folder)?;
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&folder)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self(folder)),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(Stop::Ignored(format!("a file system cannot be mounted: {why}")))
            }
            Err(error) => Err(Stop::Ignored(format!("there is no mount command: {error}"))),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Mounts it again with an option, such as `ro`.
    pub fn remount(&self, option: &str) -> TestResult {
        let options = format!("remount,{option}");
        let done = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .output()?;
        if done.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&done.stderr).into_owned().into())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Fills a file system to its last byte.
pub fn fill(folder: &Path) -> TestResult<PathBuf> {
    let file = folder.join("filler");
    let mut size = 1 << 20;
    let mut content = Vec::new();
    while size > 0 {
        content.resize(content.len() + size, 1);
        if fs::write(&file, &content).is_err() {
            content.truncate(content.len() - size);
            size /= 2;
        }
    }
    // What did not fit was cut; some of it may still stand.
    let _full = fs::write(&file, &content);
    Ok(file)
}
