//! Modules, ready to be used: expressions compiled, files named. One value is shared by all probes that use it, so that nothing is compiled or
//! read twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::probe;
use crate::config::probe::Kind;

/// A module, ready to be used.
#[derive(Debug)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Of its own; the caller's is used where there is none, or it is shorter.
    pub timeout: Option<Duration>,
    /// What was written, without what may be a secret.
    pub shown: String,
    /// Be wrong where blackbox_exporter is.
    pub strict: bool,
    /// What is done.
    pub(super) kind: Kind,
}

/// All modules by name.
#[derive(Clone, Debug, Default)]
pub struct Modules(BTreeMap<String, Arc<Module>>);

/// Modules that are there without being written down: those of blackbox_exporter's package that need no word of explanation.
const SHIPPED: &str = include_str!("../../packaging/blackbox.yml");

impl Module {
    /// Of a name and what the configuration says.
    pub fn new(name: &str, module: &probe::Module, strict: bool) -> Module {
        Module { name: name.to_owned(), timeout: module.timeout, shown: module.shown.clone(), strict, kind: module.kind.clone() }
    }

    /// How long a probe may take if whoever asks has this much time.
    pub fn timeout(&self, most: Duration) -> Duration {
        self.timeout.map_or(most, |own| own.min(most))
    }
}

impl Modules {
    /// Of these modules; later ones of the same name count, all of them more than the shipped ones.
    pub fn new<'a>(modules: impl IntoIterator<Item = &'a (String, probe::Module)>, strict: bool) -> Modules {
        // The file is a part of the program, read by a test.
        let shipped = probe::parse_file(SHIPPED).unwrap_or_default();
        let checked = |(name, module): &(String, probe::Module)| (name.clone(), Arc::new(Module::new(name, module, strict)));
        let mut all: BTreeMap<String, Arc<Module>> = shipped.iter().map(checked).collect();
        all.extend(modules.into_iter().map(checked));
        Modules(all)
    }

    /// By its name.
    pub fn get(&self, name: &str) -> Option<Arc<Module>> {
        self.0.get(name).cloned()
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
