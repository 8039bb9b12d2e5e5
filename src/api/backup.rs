//! `POST /api/v1/backups/{name}`: the node that is asked writes all that it has into a directory beside its data. `app` does it.

use std::path::PathBuf;

use serde::Serialize;

use crate::api::answer::Failure;
use crate::api::deps::Deps;
use crate::config::values;

/// As many as a year and a day have.
const KEEP_MOST: usize = 366;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The directory's.
    pub name: String,
    /// Of those that are called by their time, so many shall be left, this one among them; `None`: all.
    pub keep: Option<usize>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    /// The directory, on the host of the node.
    pub path: PathBuf,
    /// All its files. Those that the node's own data has, too, take room only once as long as it has them.
    pub bytes: u64,
    /// Names of the older ones that were removed.
    pub removed: Vec<String>,
}

/// Writes one.
pub async fn make(deps: &Deps, name: &str, query: &str) -> Result<Made, Failure> {
    let name = values::name(name).map_err(|(rule, remedy)| Failure::wrong(format!("`{name}`: a backup's name {rule}"), remedy))?;
    let wanted = Wanted { name: name.clone(), keep: keep(query)? };
    (deps.backup)(wanted).await.map_err(|refusal| Failure::of_refusal(refusal, "backup", &name, "look at the node's log"))
}

fn keep(query: &str) -> Result<Option<usize>, Failure> {
    let mut keep = None;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match (&*key, value.parse()) {
            ("keep", Ok(number)) if (1..=KEEP_MOST).contains(&number) => keep = Some(number),
            _ => return Err(Failure::wrong(format!("{key}={value} is not understood"), "the query takes keep=1 to 366")),
        }
    }
    Ok(keep)
}
