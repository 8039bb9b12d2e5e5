//! This node's certificates while it runs: the operator's on the public listener, and the cluster's own between nodes. Files are looked at once a
//! minute and at every reload; what is good is used for new connections from then on, what is not changes nothing and is told.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;

use crate::api::deps::Problem;
use crate::api::deps::Severity;
use crate::app::Fault;
use crate::app::check;
use crate::clock;
use crate::config::tls;
use crate::failpoint;
use crate::peer::Common;
use crate::serve::tls::Certificate;
use crate::serve::tls::Files;
use crate::serve::tls::Tls;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(60);
/// A public certificate that ends sooner is a problem, ms: those that renew themselves do so in the last third of their 90 days.
const ENDS_SOON_MS: i64 = 14 * 86_400_000;

/// Certificates and where they come from.
pub struct Certificates {
    listener: Option<Listener>,
    peers: Option<(Arc<Common>, Complaint)>,
}

struct Listener {
    tls: Arc<Tls>,
    files: Mutex<Files>,
    complaint: Complaint,
}

/// What is wrong with files, told once. It must be seen twice, since whoever exchanges two files is between them for a moment.
#[derive(Default)]
struct Complaint(Mutex<Option<(String, bool)>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Certificates {
    /// Reads the listener's certificate, if the file names one.
    pub fn new(tls: Option<&tls::Tls>, peers: Option<Arc<Common>>) -> Result<Certificates, Fault> {
        let listener = match tls.map(check::files) {
            None => None,
            Some(files) => {
                let certificate = Certificate::load(&files).map_err(|wrong| Fault::Start(all(&wrong)))?;
                let tls = Arc::new(Tls::new(certificate));
                Some(Listener { tls, files: Mutex::new(files), complaint: Complaint::default() })
            }
        };
        let certificates = Certificates { listener, peers: peers.map(|common| (common, Complaint::default())) };
        certificates.tell_peers();
        Ok(certificates)
    }

    /// For the listener.
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.listener.as_ref().map(|listener| Arc::clone(&listener.tls))
    }

    /// When the listener's certificate ends, ms since 1970.
    pub fn listener_ends_ms(&self) -> Option<i64> {
        self.listener.as_ref().and_then(|listener| listener.tls.ends_ms())
    }

    /// When the certificate towards the other nodes ends, ms since 1970.
    pub fn node_ends_ms(&self) -> Option<i64> {
        self.peers.as_ref().map(|(common, _)| common.expires_ms())
    }

    /// Takes what is in the files now, of these names: what changed. An error: nothing did.
    pub fn reload(&self, tls: Option<&tls::Tls>) -> Result<Vec<String>, Vec<String>> {
        let mut changed = Vec::new();
        let prepared = match tls.map(check::files) {
            Some(files) => Some((good(&files)?, files)),
            None => None,
        };
        failpoint::reach(failpoint::Place::CertificatesRead);
        if let Some((common, complaint)) = &self.peers {
            if common.renew().map_err(|error| vec![format!("the node's certificate: {error}")])? {
                changed.push("the node's certificate renewed".to_owned());
            }
            complaint.forget();
        }
        if let (Some(listener), Some((certificate, files))) = (&self.listener, prepared) {
            *lock(&listener.files) = files;
            if listener.tls.exchange(certificate) {
                changed.push("the listener's certificate renewed".to_owned());
            }
            listener.complaint.forget();
        }
        self.tell_peers();
        Ok(changed)
    }

    /// Looks at the files again and again, until the end.
    pub async fn keep(self: Arc<Certificates>, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(LOOK) => self.look(),
            }
        }
    }

    /// Takes what is in the files now; says in the log what came of it.
    fn look(&self) {
        if let Some(listener) = &self.listener {
            let files = lock(&listener.files).clone();
            match good(&files) {
                Ok(certificate) => {
                    if listener.tls.exchange(certificate) {
                        tracing::info!(file = %files.certificate.display(), "the listener has a new certificate");
                    }
                    listener.complaint.forget();
                }
                Err(wrong) => listener.complaint.of(wrong.join("; ")),
            }
        }
        if let Some((common, complaint)) = &self.peers {
            match common.renew() {
                Ok(new) => {
                    if new {
                        tracing::info!("the node has a new certificate for the others");
                    }
                    complaint.forget();
                }
                Err(error) => complaint.of(error),
            }
        }
        self.tell_peers();
    }

    fn tell_peers(&self) {
        if let Some((common, _)) = &self.peers {
            common.tell_public_expiry(self.listener_ends_ms());
        }
    }

    /// What is wrong with them.
    pub fn problems(&self, now_ms: i64) -> Vec<Problem> {
        let mut problems = Vec::new();
        // Of several nodes, each says it of all.
        if self.peers.is_none() {
            problems.extend(self.listener_ends_ms().and_then(|ends| ends_soon("listener".to_owned(), ends, now_ms)));
        }
        let complaints = [
            ("listener", self.listener.as_ref().map(|listener| &listener.complaint)),
            ("node", self.peers.as_ref().map(|(_, complaint)| complaint)),
        ];
        for (about, text) in complaints.into_iter().filter_map(|(about, complaint)| Some((about, complaint?.told()?))) {
            let (code, about) = ("certificate_file".to_owned(), about.to_owned());
            let text = format!("a new certificate was not taken: {text}");
            let remedy = "mend the files; until then the certificate that was there before stays in use".to_owned();
            problems.push(Problem { severity: Severity::Warning, code, about, text, remedy });
        }
        problems
    }
}

/// A public certificate that has ended, or will soon.
pub fn ends_soon(about: String, ends_ms: i64, now_ms: i64) -> Option<Problem> {
    let left = ends_ms - now_ms;
    let (severity, text) = match left {
        ..0 => (Severity::Error, "its public certificate has ended: senders that look at it send nothing".to_owned()),
        0..ENDS_SOON_MS => (Severity::Warning, format!("its public certificate ends in {} days", left / 86_400_000)),
        _ => return None,
    };
    let remedy = "write a new one into the files of `tls:`; they are read again within a minute".to_owned();
    Some(Problem { severity, code: "public_certificate".to_owned(), about, text, remedy })
}

impl Complaint {
    fn of(&self, text: String) {
        let mut last = lock(&self.0);
        match &mut *last {
            Some((before, told)) if *before == text => {
                if !std::mem::replace(told, true) {
                    tracing::warn!("a new certificate was not taken, the old one stays: {text}");
                }
            }
            _ => *last = Some((text, false)),
        }
    }

    fn forget(&self) {
        *lock(&self.0) = None;
    }

    fn told(&self) -> Option<String> {
        lock(&self.0).as_ref().filter(|(_, told)| *told).map(|(text, _)| text.clone())
    }
}

/// The files' certificate, to take the place of another one: so it must not have ended.
fn good(files: &Files) -> Result<Certificate, Vec<String>> {
    let certificate = Certificate::load(files).map_err(|wrong| wrong.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    if certificate.ended(clock::wall_ms()) {
        return Err(vec![format!("{}: has ended; write one that is good", files.certificate.display())]);
    }
    Ok(certificate)
}

fn all(wrong: &[impl Display]) -> String {
    wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Bundle;

    #[test]
    fn a_new_file_is_taken_and_a_bad_one_is_told_once_it_is_seen_again() {
        let dir = tempfile::tempdir().unwrap();
        let now = clock::wall_ms();
        let bundle = Bundle::make("dc1", &["localhost".into()], now).unwrap();
        let files = tls::Tls { cert_file: dir.path().join("own.pem"), key_file: dir.path().join("own.key") };
        let write = |from_ms: i64| {
            let made = bundle.admit(1, "localhost", from_ms).unwrap();
            std::fs::write(&files.cert_file, made.certificate).unwrap();
            std::fs::write(&files.key_file, made.key).unwrap();
        };
        write(now);
        let certificates = Certificates::new(Some(&files), None).unwrap();
        let first = certificates.listener_ends_ms().unwrap();
        write(now + 86_400_000);
        certificates.look();
        assert_eq!(certificates.listener_ends_ms(), Some(first + 86_400_000));
        assert_eq!(certificates.reload(Some(&files)), Ok(Vec::new()), "it has been taken");

        let key = std::fs::read(&files.key_file).unwrap();
        write(now + 2 * 86_400_000);
        std::fs::write(&files.key_file, key).unwrap();
        certificates.look();
        assert!(certificates.problems(now).is_empty(), "both files may be about to be exchanged");
        certificates.look();
        let problems = certificates.problems(now);
        assert!(problems.len() == 1 && problems[0].text.contains("does not go with"), "{problems:?}");
        assert!(certificates.reload(Some(&files)).unwrap_err()[0].contains("own.key"));
        assert_eq!(certificates.listener_ends_ms(), Some(first + 86_400_000), "the old one stays");

        let long_ago = now - 4 * 365 * 86_400_000;
        write(long_ago);
        assert!(certificates.reload(Some(&files)).unwrap_err()[0].contains("has ended"));
        write(now + 2 * 86_400_000);
        certificates.look();
        assert!(certificates.problems(now).is_empty());
        // A node that comes back with a certificate that has ended runs on, and says so.
        write(long_ago);
        let late = Certificates::new(Some(&files), None).unwrap();
        assert_eq!(late.problems(now)[0].severity, Severity::Error);
    }
}
