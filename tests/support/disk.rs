//! Disks that fail: a small tmpfs that can be filled, and a program's fsync answered with an error.
//!
//! The tmpfs lives in a mount namespace of its own, held by a sleeping process: no mount is left on the machine, and root is not
//! needed where users may make namespaces.

use super::process::{Process, Scratch, eventually};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of `unshare` for a mount namespace, as any user.
pub const NAMESPACE: [&str; 3] = ["--user", "--map-root-user", "--mount"];

/// A tmpfs of a few megabytes.
pub struct SmallDisk {
    holder: Process,
    mount: PathBuf,
}

impl SmallDisk {
    pub fn new(scratch: &Scratch, megabytes: u32) -> SmallDisk {
        SmallDisk::named(scratch, "small", megabytes)
    }

    /// One of several.
    pub fn named(scratch: &Scratch, name: &str, megabytes: u32) -> SmallDisk {
        let mount = scratch.sub(name);
        let script = format!("mount -t tmpfs -o size={megabytes}m sluice-test '{}' && exec sleep 3600", mount.display());
        let mut args: Vec<String> = NAMESPACE.map(str::to_owned).into();
        args.extend(["sh".to_owned(), "-c".to_owned(), script]);
        let holder = Process::start("small disk", "unshare", &args, scratch.path(), &scratch.join("disk.log"));
        let disk = SmallDisk { holder, mount };
        eventually(Duration::from_secs(10), "the tmpfs", || {
            let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", disk.holder.pid())).map_err(|error| error.to_string())?;
            if mounts.contains("sluice-test") { Ok(()) } else { Err(disk.holder.log_tail(300)) }
        });
        disk
    }

    /// The path at which programs inside see it.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The same directory, seen from here.
    pub fn outside(&self) -> PathBuf {
        let mount = self.mount.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.holder.pid().to_string()).join("root").join(mount)
    }

    /// What to put before a command so that it runs where the disk is: program and arguments.
    pub fn enter(&self) -> Vec<String> {
        let pid = self.holder.pid();
        ["nsenter", "--preserve-credentials", "-U", "-m", "-t", &pid.to_string()].map(str::to_owned).into()
    }

    /// Writes into `filler` until nothing more fits.
    pub fn fill(&self) {
        self.fill_but(0);
    }

    /// Writes into `filler` until so many bytes are left.
    pub fn fill_but(&self, bytes: u64) {
        let mut filler = std::fs::File::options().append(true).create(true).open(self.outside().join("filler")).expect("filler");
        let block = vec![0_u8; 4096];
        while self.left() > bytes && filler.write_all(&block).is_ok() {}
    }

    /// Bytes that may still be written.
    pub fn left(&self) -> u64 {
        let room = rustix::fs::statvfs(self.outside()).expect("the mount");
        room.f_bavail * room.f_frsize
    }

    /// Gives the room back.
    pub fn free(&self) {
        std::fs::remove_file(self.outside().join("filler")).expect("filler");
    }
}

/// Lets the process's next fsync and fdatasync fail with EIO, by attaching strace to it; ends when the process does.
pub fn fail_fsync(pid: u32, scratch: &Scratch) -> Process {
    inject(pid, scratch, "error=EIO")
}

/// Makes each fsync and fdatasync of the process take so long, until strace is stopped.
pub fn slow_fsync(pid: u32, scratch: &Scratch, by: Duration) -> Process {
    inject(pid, scratch, &format!("delay_enter={}", by.as_micros()))
}

fn inject(pid: u32, scratch: &Scratch, what: &str) -> Process {
    let (inject, pid) = (format!("inject=fsync,fdatasync:{what}"), pid.to_string());
    let args = ["-f", "-o", "strace.out", "-e", "trace=fsync,fdatasync,sync_file_range", "-e", &inject, "-p", &pid];
    Process::start("strace", "strace", &args.map(str::to_owned), scratch.path(), &scratch.join("strace.log"))
}
