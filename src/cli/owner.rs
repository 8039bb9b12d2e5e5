//! Verbs that write into a node's directory (`cluster join`, `restore`, `recover`) are typed by root, and the service that reads it runs as another user: the
//! one to whom the package gave the directory. What root made in it is given to that user, else the next start would fail at a file that it may not read.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::fs::Uid;

use crate::cli::Failure;

/// Gives everything in the directory that is root's to the directory's owner. Does nothing where that is root, too, or somebody else runs this.
pub fn hand_over(data_dir: &Path) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let given = rustix::fs::open(data_dir, DIRECTORY, Mode::empty()).map_err(io::Error::from).and_then(|dir| {
        let about = rustix::fs::fstat(&dir)?;
        if about.st_uid == 0 { Ok(()) } else { give(&dir, &about) }
    });
    given.map_err(|error| {
        let place = data_dir.display();
        Failure::Failed(format!("what was made in {place} cannot be given to its owner: {error}"))
    })
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// By descriptors and without following a link: the owner may change what is in the directory meanwhile, and must not be given anything that lies elsewhere.
/// For the same reason a file with a second name stays root's.
fn give(dir: &impl AsFd, owner: &Stat) -> io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let about = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let folder = FileType::from_raw_mode(about.st_mode) == FileType::Directory;
        if folder {
            give(&rustix::fs::openat(dir, name, DIRECTORY, Mode::empty())?, owner)?;
        }
        if about.st_uid == 0 && (folder || about.st_nlink == 1) {
            let (user, group) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
            rustix::fs::chownat(dir, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::fs::lchown;

    use super::*;

    #[test]
    fn what_root_made_belongs_to_the_owner_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("cluster");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("node.key"), "key").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
        hand_over(dir.path()).unwrap();
        if !rustix::process::geteuid().is_root() {
            return; // nobody else may give anything away
        }
        let owner = |path: &Path| std::fs::symlink_metadata(path).map(|about| (about.uid(), about.gid())).unwrap();
        assert_eq!(owner(&inner), (0, 0), "the directory is root's itself");
        lchown(dir.path(), Some(4_711), Some(4_712)).unwrap();
        hand_over(dir.path()).unwrap();
        for path in [inner.clone(), inner.join("node.key"), dir.path().join("link")] {
            assert_eq!(owner(&path), (4_711, 4_712), "{}", path.display());
        }
        assert_ne!(owner(Path::new("/etc/hostname")), (4_711, 4_712), "a link leads nowhere");
        // What is another one's already stays so, and so does what has a second name.
        std::fs::write(dir.path().join("one"), "").unwrap();
        std::fs::hard_link(dir.path().join("one"), dir.path().join("two")).unwrap();
        lchown(inner.join("node.key"), Some(99), Some(99)).unwrap();
        hand_over(dir.path()).unwrap();
        assert_eq!((owner(&inner.join("node.key")), owner(&dir.path().join("one"))), ((99, 99), (0, 0)));
    }
}
