//! `tls:`: the certificate of the public listener. The keys are those of Prometheus' web configuration; what is in the files is judged by `serve`.

use std::path::Path;
use std::path::PathBuf;

use crate::config::read::Section;

/// Where certificate and key stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM: the certificate, then its chain.
    pub cert_file: PathBuf,
    /// PEM: its key.
    pub key_file: PathBuf,
}

/// Reads `tls:`.
pub fn read(section: &Section<'_>) -> Option<Tls> {
    let cert_file = section.must("cert_file", "name the certificate: tls: { cert_file: sluice.pem, key_file: sluice.key }", super::path);
    let key_file =
        section.must("key_file", "name the certificate's key: tls: { cert_file: sluice.pem, key_file: sluice.key }", super::path);
    section.finish();
    Some(Tls { cert_file: cert_file?, key_file: key_file? })
}

impl Tls {
    /// With relative paths beginning at this directory, as Prometheus has it.
    pub fn beside(&mut self, dir: &Path) {
        for path in [&mut self.cert_file, &mut self.key_file] {
            *path = dir.join(&*path);
        }
    }
}
