//! `sluice cluster debug-bundle`: one file with all that somebody who helps would ask for.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::Args;

use crate::cli::Asked;
use crate::cli::Failure;
use crate::cli::archive;
use crate::cli::cluster::list;
use crate::clock;

/// `sluice cluster debug-bundle`.
#[derive(Debug, Args)]
pub struct Wanted {
    /// The file to write; without it, sluice-debug-TIME.tar.gz here.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    asked: Asked,
}

/// Asks for everything and writes it down.
pub async fn write(wanted: &Wanted) -> Result<(), Failure> {
    let seconds = clock::wall_ms().unsigned_abs() / 1000;
    let path = wanted.file.clone().unwrap_or_else(|| PathBuf::from(format!("sluice-debug-{seconds}.tar.gz")));
    // First, so that nothing is asked in vain.
    let cannot = |error: std::io::Error| Failure::Failed(format!("{}: {error}", path.display()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(cannot)?;
    let answer = match wanted.asked.client().get("/api/v1/cluster/debug").await {
        Ok(answer) => answer,
        Err(failure) => {
            let _ = std::fs::remove_file(&path); // empty: nobody misses it
            return Err(failure);
        }
    };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let files: Vec<(String, String)> =
        list(&answer, "files").iter().map(|file| (format!("sluice-debug/{}", plain(&text(&file["name"]))), text(&file["text"]))).collect();
    let packed = archive::tar_gz(&files, seconds).map_err(cannot)?;
    file.write_all(&packed).map_err(cannot)?;
    if wanted.asked.json {
        println!("{:#}", serde_json::json!({"file": path, "files": files.iter().map(|(name, _)| name).collect::<Vec<_>>()}));
    } else {
        println!(
            "{}: {} files. Passwords, tokens and keys are not in it; names of series, groups, hosts and topics are",
            path.display(),
            files.len()
        );
        let missing = files.iter().filter_map(|(name, why)| Some((name.strip_suffix("/not-reached.txt")?, why)));
        missing.for_each(|(name, why)| println!("  without {}: {}", name.trim_start_matches("sluice-debug/"), why.trim()));
    }
    Ok(())
}

/// A name that stays below the directory into which it is unpacked.
fn plain(name: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '_' };
    let part = |part: &str| part.chars().map(letter).take(60).collect::<String>().trim_start_matches('.').to_owned();
    let (node, file) = name.rsplit_once('/').unwrap_or(("node", name));
    // The file's name is short, so that it is not what is cut off.
    format!("{}/{}", part(node), part(file).chars().take(20).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_name_stays_in_its_place() {
        assert_eq!(plain("mon1.dc1/status.json"), "mon1.dc1/status.json");
        assert_eq!(plain("../../etc/passwd"), "_.._etc/passwd");
        assert_eq!(plain("x"), "node/x");
        assert!(plain(&format!("{}/status.json", "n".repeat(300))).len() < 80);
    }
}
