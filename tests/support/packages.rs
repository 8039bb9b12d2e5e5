//! Packages of the binary under test, and machines to install them on: a root directory each, with the files of this one below and whatever is installed above, in memory and in a mount
//! namespace of its own. So a package's scripts run with real tools (groupadd, systemctl, sh) and change nothing of the machine that tests. Root only: it is an overlay.

use super::process::{Process, Scratch, eventually};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use super::sluice::BINARY;

/// The version that is installed first, and the one after it.
pub const VERSIONS: [&str; 2] = ["1.0.0", "1.1.0"];

/// What `scripts/package` makes of the binary under test, in this directory.
#[track_caller]
pub fn build(out: &Path, version: &str, only: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/package");
    let args =
        ["--binary", BINARY, "--version", version, "--only", only, "--quick", "--out", &out.display().to_string()].map(str::to_owned);
    let made = Command::new(script).args(args).output().expect("scripts/package");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Packages of both versions, made once.
pub fn built() -> &'static Path {
    static BUILT: OnceLock<Scratch> = OnceLock::new();
    let scratch = BUILT.get_or_init(|| {
        let scratch = Scratch::new("packages-shared-");
        build(scratch.path(), VERSIONS[0], "rpm deb tar");
        build(scratch.path(), VERSIONS[1], "rpm deb");
        scratch
    });
    scratch.path()
}

pub fn rpm(version: &str) -> PathBuf {
    built().join(format!("sluice-{version}-1.{}.rpm", std::env::consts::ARCH))
}

pub fn deb(version: &str) -> PathBuf {
    let arch = if std::env::consts::ARCH == "x86_64" { "amd64" } else { "arm64" };
    built().join(format!("sluice_{version}_{arch}.deb"))
}

/// A machine to install on.
pub struct Root {
    holder: Process,
    root: PathBuf,
}

impl Root {
    pub fn new(scratch: &Scratch, name: &str) -> Root {
        let base = scratch.sub(name);
        let script = format!(
            "mount -t tmpfs -o size=4g sluice-root '{base}' && cd '{base}' && mkdir up work root \
             && mount -t overlay -o lowerdir=/,upperdir=up,workdir=work sluice-root root \
             && mount --bind /proc root/proc && mount --bind /dev root/dev && mount -t tmpfs t root/run && mount -t tmpfs t root/tmp \
             && chmod 1777 root/tmp && touch root/run/made && exec sleep 3600",
            base = base.display()
        );
        let args = ["--mount", "sh", "-c", &script].map(str::to_owned);
        let holder = Process::start("a machine", "unshare", &args, scratch.path(), &scratch.join("machine.log"));
        let made = Root { holder, root: base.join("root") };
        eventually(Duration::from_secs(20), "the machine", || {
            if made.outside("/run/made").exists() { Ok(()) } else { Err(made.holder.log_tail(500)) }
        });
        made
    }

    /// Whether this machine can have such ones.
    pub fn fault() -> Option<String> {
        let script = "mount -t tmpfs t /mnt && mkdir /mnt/up /mnt/work /mnt/root && mount -t overlay -o lowerdir=/,upperdir=/mnt/up,workdir=/mnt/work o /mnt/root";
        let tried = Command::new("unshare").args(["--mount", "sh", "-c", script]).output();
        (!tried.is_ok_and(|tried| tried.status.success())).then(|| "this user may not mount an overlay (root may)".to_owned())
    }

    /// A path of it, seen from here.
    pub fn outside(&self, path: &str) -> PathBuf {
        let inside = self.root.join(path.trim_start_matches('/'));
        Path::new("/proc").join(self.holder.pid().to_string()).join("root").join(inside.strip_prefix("/").expect("an absolute path"))
    }

    /// What stands before a command of its root.
    pub fn enter(&self) -> Vec<String> {
        let (pid, root) = (self.holder.pid().to_string(), self.root.display().to_string());
        ["nsenter", "--mount", "--target", &pid, "chroot", &root].map(str::to_owned).into()
    }

    /// The same of its user sluice, as the unit says.
    pub fn enter_as_sluice(&self) -> Vec<String> {
        let drop = ["setpriv", "--reuid", "sluice", "--regid", "sluice", "--clear-groups", "--no-new-privs", "--pdeathsig", "KILL"];
        self.enter().into_iter().chain(drop.map(str::to_owned)).collect()
    }

    /// Runs a command in it, as root.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut line = self.enter();
        Command::new(line.remove(0)).args(line).args(args).env("LC_ALL", "C.UTF-8").output().expect("nsenter")
    }

    /// The same with what it printed; it must succeed.
    #[track_caller]
    pub fn must(&self, args: &[&str]) -> String {
        expect(args, self.run(args))
    }

    /// `rpm --root`: into this machine from outside of it, so that scripts run inside.
    #[track_caller]
    pub fn rpm(&self, args: &[&str]) -> String {
        let root = self.root.display().to_string();
        // Debian's rpm keeps its database in a home and refuses without the last word; and it knows nothing of the packages that are there.
        let nodeps: &[&str] = if args[0] == "-q" { &[] } else { &["--nodeps"] };
        self.host(&[&["rpm", "--root", &root, "--dbpath", "/var/lib/rpm", "--force-debian"], nodeps, args].concat())
    }

    /// `dpkg --root`.
    #[track_caller]
    pub fn dpkg(&self, args: &[&str]) -> String {
        let root = format!("--root={}", self.root.display());
        self.host(&[&["dpkg", &root, "--force-confold"], args].concat())
    }

    #[track_caller]
    fn host(&self, args: &[&str]) -> String {
        let pid = self.holder.pid().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &pid]).args(args).env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        expect(args, command.output().expect("nsenter"))
    }

    /// `mode owner:group` of a path.
    #[track_caller]
    pub fn owner(&self, path: &str) -> String {
        self.must(&["stat", "-c", "%a %U:%G", path]).trim().to_owned()
    }

    pub fn has(&self, path: &str) -> bool {
        self.outside(path).symlink_metadata().is_ok()
    }

    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.outside(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

#[track_caller]
fn expect(args: &[&str], output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?} ended with {}: {out}{err}", output.status);
    format!("{out}{err}")
}

/// Runs a command here and gives what it printed; it must succeed.
#[track_caller]
pub fn must(program: &str, args: &[&str]) -> String {
    expect(&[&[program], args].concat(), Command::new(program).args(args).env("LC_ALL", "C.UTF-8").output().expect(program))
}
