//! `POST /api/v1/backups/{name}`: the node that is asked writes all that it has into a directory beside its data. `app` does it.

use std::path::PathBuf;

use serde::Serialize;

use crate::api::answer::Failure;
use crate::api::deps::Deps;
use crate::config::values;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    /// The directory, on the host of the node.
    pub path: PathBuf,
    /// All its files. Those that the node's own data has, too, take room only once as long as it has them.
    pub bytes: u64,
}

/// Writes one.
pub async fn make(deps: &Deps, name: &str) -> Result<Made, Failure> {
    let name = values::name(name).map_err(|(rule, remedy)| Failure::wrong(format!("`{name}`: a backup's name {rule}"), remedy))?;
    (deps.backup)(name.clone()).await.map_err(|refusal| Failure::of_refusal(refusal, "backup", &name, "look at the node's log"))
}
